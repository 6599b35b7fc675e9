//! Which price a node has, and what is said of price files that tell none.

use super::*;
use crate::gpus;

fn now() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

fn price(query: &PriceQuery<'_>) -> NodePrice {
    price_of(query, &PriceBook::default(), now(), 180).0
}

fn one(text: &str) -> PriceBook {
    PriceBook::parse(&format!("[[price]]\n{text}")).unwrap()
}

#[test]
fn discounts_currencies_and_commitments_are_what_is_paid() {
    let query = PriceQuery {
        cluster: "prod",
        node: "a",
        pool: "",
        cloud: Some("aws"),
        instance_type: Some("p5.48xlarge"),
        region: Some("us-east-1"),
        capacity_type: CapacityType::OnDemand,
        gpu: gpus::find("H100-SXM5-80GB"),
        gpus: 8,
        machine: None,
        flex_start: false,
    };
    let paid = |text: &str| price_of(&query, &one(text), now(), 180).0.usd_per_hour.unwrap().usd();
    assert!((paid("cluster = \"prod\"\ndiscount = 0.4") - 55.04 * 0.6).abs() < 1e-6);
    assert!((paid("node = \"*\"\nusd_per_gpu_hour = 2\ndiscount = 0.25") - 12.0).abs() < 1e-6);
    assert!((paid("node = \"*\"\nusd_per_hour = 10\ncurrency = \"EUR\"\nrate = 1.1") - 11.0).abs() < 1e-6);
    assert!((paid("node = \"*\"\ncommitted_until = 2027-06-30") - 55.04).abs() < 1e-6);
    let dated = one("node = \"a\"\nusd_per_hour = 1\nas_of = 2026-11-01\ncommitted_until = 2026-11-24");
    assert_eq!(dated.entries[0].as_of.as_deref(), Some("2026-11-01"));
    assert!(dated.entries[0].is_committed(now()), "its last day counts");
    assert!(!dated.entries[0].is_committed("2026-11-25T00:00:00Z".parse().unwrap()));
    for (text, words) in [
        ("node = \"a\"\nusd_per_hour = 1\ncurrency = \"EUR\"", "rate = 1.08"),
        ("node = \"a\"\nusd_per_hour = 1\nrate = 2", "currency"),
        ("node = \"a\"\ndiscount = 40", "0.4 is 40 % off"),
        ("node = \"a\"\nusd_per_hour = 1\nas_of = 7", "as_of = 2026-11-01"),
        (
            "node = \"a\"\nusd_per_hour = 1\ncommitted_until = \"soon\"",
            "2027-06-30",
        ),
    ] {
        let why = PriceBook::parse(&format!("[[price]]\n{text}")).unwrap_err();
        assert!(why.contains(words), "{text}: {why}");
    }
}

#[test]
fn prices_fall_from_row_to_region_to_median_to_unknown() {
    let h100 = gpus::find("H100-SXM5-80GB");
    let query = PriceQuery {
        cloud: Some("aws"),
        instance_type: Some("p5.48xlarge"),
        region: Some("us-east-1"),
        capacity_type: CapacityType::OnDemand,
        gpu: h100,
        gpus: 8,
        ..PriceQuery::default()
    };
    let exact = price(&query);
    assert_eq!(
        (exact.usd_per_hour, exact.source),
        (UsdPerHour::from_usd(55.04), PriceSource::Catalog)
    );
    let elsewhere = price(&PriceQuery {
        region: Some("mars-north-1"),
        ..query.clone()
    });
    assert_eq!(
        (elsewhere.usd_per_hour, elsewhere.source),
        (UsdPerHour::from_usd(55.04), PriceSource::RegionGuess)
    );
    let spot = price(&PriceQuery {
        capacity_type: CapacityType::Spot,
        ..query.clone()
    });
    assert_eq!(
        (spot.usd_per_hour, spot.source),
        (UsdPerHour::from_usd(19.4933), PriceSource::Catalog)
    );
    // Of a spot machine without a type the card is known, and that it is not paid for as one that stays.
    let of_card = |capacity_type| {
        price(&PriceQuery {
            instance_type: None,
            capacity_type,
            ..query.clone()
        })
    };
    let (spot, list) = (of_card(CapacityType::Spot), of_card(CapacityType::OnDemand));
    assert_eq!(
        (spot.source, list.source),
        (PriceSource::GpuMedian, PriceSource::GpuMedian)
    );
    assert!(
        spot.usd_per_hour.unwrap().usd() < 0.7 * list.usd_per_hour.unwrap().usd(),
        "{spot:?} {list:?}"
    );
    let own = price(&PriceQuery {
        cloud: None,
        instance_type: None,
        capacity_type: CapacityType::Owned,
        ..query.clone()
    });
    assert_eq!(own.source, PriceSource::GpuMedian);
    assert!(own.usd_per_hour.is_some_and(|p| p.usd() > 8.0));
    let unknown = price(&PriceQuery {
        instance_type: Some("dgx-mystery"),
        gpu: None,
        ..query
    });
    assert_eq!(unknown, NodePrice::default());
}

#[test]
fn a_reservation_is_never_priced_by_the_list() {
    let query = PriceQuery {
        cloud: Some("aws"),
        instance_type: Some("p5.48xlarge"),
        region: Some("us-east-1"),
        capacity_type: CapacityType::Reserved,
        gpus: 8,
        ..PriceQuery::default()
    };
    assert_eq!(price(&query).source, PriceSource::Unknown);
}

#[test]
fn the_users_price_wins() {
    let book = PriceBook::parse("[[price]]\nnode = \"gpu-*\"\ngpu = \"H100 80GB\"\nusd_per_gpu_hour = 2.5\n").unwrap();
    let query = PriceQuery {
        node: "gpu-07",
        gpu: gpus::find("H100-SXM5-80GB"),
        gpus: 8,
        ..PriceQuery::default()
    };
    let (price, used) = price_of(&query, &book, now(), 180);
    assert_eq!(
        (price.usd_per_hour, price.source, used),
        (UsdPerHour::from_usd(20.0), PriceSource::User, Some(0))
    );
    let other = PriceQuery { node: "cpu-1", ..query };
    assert_eq!(price_of(&other, &book, now(), 180).1, None);
}

#[test]
fn a_typo_in_a_price_file_names_the_line() {
    let error = PriceBook::parse("[[price]]\ninstance_typ = \"p5.48xlarge\"\nusd_per_hour = 1.0\n").unwrap_err();
    assert!(
        error.contains("line 2") && error.contains("did you mean 'instance_type'"),
        "{error}"
    );
    let error =
        PriceBook::parse("[[price]]\nnode = \"a\"\nusd_per_hour = 1\n\n[[price]]\nnode = \"b\"\nusd_per_hour = -3\n")
            .unwrap_err();
    assert!(error.contains("line 5") && error.contains("-3"), "{error}");
    let error = PriceBook::parse("[[price]\n").unwrap_err();
    assert!(error.contains("line 1"), "{error}");
    for (text, word) in [
        ("[[price]]\nnode=\"a\"\n", "no amount"),
        ("[[price]]\nusd_per_hour=1.0\n", "every node"),
        ("[[price]]\nnode=\"a\"\nusd_per_hour=nan\n", "no price"),
        ("[[price]]\nnode=\"a\"\ncurrency=\"EUR\"\nusd_per_hour=1.0\n", "EUR"),
        ("[[price]]\ngpu=\"H100 SMX\"\nusd_per_hour=1.0\n", "H100-SXM5-80GB"),
        ("", "no [[price]]"),
    ] {
        let error = PriceBook::parse(text).unwrap_err();
        assert!(error.contains(word), "{text}: {error}");
    }
}

#[test]
fn dates_may_be_partial() {
    assert!(!is_stale("2026-07-20", now(), 180));
    assert!(is_stale("2026-01-21", now(), 180));
    assert!(!is_stale("2026-08", now(), 180));
    assert!(is_stale("unknown", now(), 180));
}

#[test]
fn the_template_is_a_price_file() {
    let text = template(&[
        ("p5.48xlarge".into(), Some("us-east-1".into()), CapacityType::OnDemand),
        ("odd".into(), None, CapacityType::Unknown),
    ]);
    let book = PriceBook::parse(&text).unwrap();
    assert_eq!(book.entries.len(), 2);
    assert_eq!(book.entries[0].usd_per_hour, Some(55.04));
    assert!(PriceBook::parse(&template(&[])).is_ok());
}

#[test]
fn globs_match_as_people_expect() {
    assert!(glob("gpu-*", "GPU-12"));
    assert!(glob("*h100*", "aks-h100-vmss01"));
    assert!(glob("exact", "exact"));
    assert!(!glob("exact", "exactly"));
    assert!(!glob("gpu-?", "gpu-1"), "a question mark is itself");
    assert!(glob("", "") && !glob("", "a") && glob("*", ""));
    assert!(!glob("a*b*c", "abd"));
    assert!(!glob("ab*ba", "aba"), "parts do not overlap");
}
