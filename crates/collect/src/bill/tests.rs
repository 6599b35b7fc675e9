//! Exports as the clouds write them; forms of ids, units and times after the FinOps Foundation's FOCUS 1.0 sample data (AWS, Microsoft,
//! Oracle) and Google's BigQuery view.

use super::*;
use crate::catalog::bill::Billed;
use crate::catalog::prices::CapacityType;
use crate::units::UsdPerHour;
use std::fmt::Write as _;
use std::io::Write as _;

const HEAD: &str = "AvailabilityZone,BillingCurrency,ChargeCategory,ChargeClass,ChargeDescription,ChargePeriodEnd,ChargePeriodStart,CommitmentDiscountStatus,ConsumedQuantity,ConsumedUnit,EffectiveCost,PricingCategory,ResourceId,ResourceName,SkuId\n";

/// A row: the hour it begins, of days of November 2026, its length in hours, and the rest.
struct Row<'a> {
    day: u32,
    hour: u32,
    hours: u32,
    id: &'a str,
    name: &'a str,
    unit: &'a str,
    quantity: f64,
    cost: f64,
    status: &'a str,
    pricing: &'a str,
    sku: &'a str,
    words: &'a str,
    category: &'a str,
    currency: &'a str,
}

const ROW: Row<'_> = Row {
    day: 1,
    hour: 0,
    hours: 1,
    id: "i-0abc12def34567890",
    name: "NULL",
    unit: "Hours",
    quantity: 1.0,
    cost: 10.0,
    status: "NULL",
    pricing: "Standard",
    sku: "S1",
    words: "$98.32 per On Demand Linux p5.48xlarge Instance Hour",
    category: "Usage",
    currency: "USD",
};

impl Row<'_> {
    fn write(&self, to: &mut String) {
        let time = |hours: u32| format!("2026-11-{:02}T{:02}:00:00Z", self.day + hours / 24, hours % 24);
        writeln!(
            to,
            "z,{},{},NULL,\"{}\",{},{},{},{},{},{},{},{},{},{}",
            self.currency,
            self.category,
            self.words,
            time(self.hour + self.hours),
            time(self.hour),
            self.status,
            self.quantity,
            self.unit,
            self.cost,
            self.pricing,
            self.id,
            self.name,
            self.sku
        )
        .unwrap();
    }
}

fn export(rows: &[Row<'_>]) -> String {
    let mut text = HEAD.to_string();
    for row in rows {
        row.write(&mut text);
    }
    text
}

fn of(bytes: &[u8], rates: &Rates) -> Result<Bill> {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().write_all(bytes).unwrap();
    read(&[file.path().to_owned()], rates)
}

fn bill(rows: &[Row<'_>]) -> Bill {
    of(export(rows).as_bytes(), &Rates::new()).unwrap()
}

fn billed<'b>(bill: &'b Bill, node: &str) -> &'b Billed {
    &bill.machines[&machine::of_provider_id(node).unwrap()]
}

const NODE: &str = "aws:///us-west-2a/i-0abc12def34567890";

fn usd(of: f64) -> UsdPerHour {
    UsdPerHour::from_usd(of).unwrap()
}

/// Every hour of some days.
fn hourly<'a>(days: std::ops::Range<u32>, row: impl Fn(u32, u32) -> Row<'a>) -> Vec<Row<'a>> {
    days.flat_map(|day| (0..24).map(move |hour| (day, hour)))
        .map(|(d, h)| row(d, h))
        .collect()
}

#[test]
fn an_hour_costs_what_was_paid_for_it() {
    // Half of each hour is covered by a savings plan; transfer on the same machine is not what it costs.
    let mut rows = hourly(1..10, |day, hour| Row {
        day,
        hour,
        quantity: 0.5,
        cost: 20.0,
        ..ROW
    });
    rows.extend(hourly(1..10, |day, hour| Row {
        day,
        hour,
        quantity: 0.5,
        cost: 12.0,
        status: "Used",
        ..ROW
    }));
    rows.extend(hourly(1..10, |day, hour| Row {
        day,
        hour,
        unit: "GB",
        quantity: 900.0,
        cost: 77.0,
        sku: "S2",
        ..ROW
    }));
    for category in ["Tax", "Purchase", "Credit", "Adjustment"] {
        rows.push(Row {
            category,
            cost: -9000.0,
            ..ROW
        });
    }
    let bill = bill(&rows);
    let told = billed(&bill, NODE);
    assert_eq!(told.usd_per_hour, usd(32.0));
    assert_eq!((told.paid, told.as_of.as_str()), (CapacityType::OnDemand, "2026-11-09"));
    assert_eq!(told.gpu_type.map(str::to_lowercase).as_deref(), Some("p5.48xlarge"));
}

#[test]
fn a_part_of_an_hour_is_no_cheaper_machine() {
    // It ran for 12 minutes of its only hour.
    let bill = bill(&[Row {
        quantity: 0.2,
        cost: 8.0,
        ..ROW
    }]);
    assert_eq!(billed(&bill, NODE).usd_per_hour, usd(40.0));
}

#[test]
fn commitments_and_spot_are_told() {
    let paid = |row: Row<'_>| billed(&bill(&[row]), NODE).paid;
    assert_eq!(paid(Row { status: "Used", ..ROW }), CapacityType::Reserved);
    assert_eq!(
        paid(Row {
            pricing: "Dynamic",
            ..ROW
        }),
        CapacityType::Spot
    );
    assert_eq!(paid(ROW), CapacityType::OnDemand);
}

#[test]
fn a_scale_set_is_charged_for_all_its_machines() {
    let set =
        "/subscriptions/9ec5/resourcegroups/mc_ml/providers/microsoft.compute/virtualmachinescalesets/aks-h100-1-vmss";
    // Three machines all day, at 88.49 each hour, by the day.
    let rows: Vec<Row<'_>> = (1..6)
        .map(|day| Row {
            day,
            hours: 24,
            id: set,
            name: "aks-h100-1-vmss",
            quantity: 72.0,
            cost: 72.0 * 88.49,
            words: "ND96isr H100 v5",
            ..ROW
        })
        .collect();
    let bill = bill(&rows);
    let node = format!("azure://{set}/virtualMachines/7");
    assert_eq!(billed(&bill, &node).usd_per_hour, usd(88.49));
    assert_eq!(billed(&bill, &node).gpu_type, Some("Standard_ND96isr_H100_v5"));
}

#[test]
fn parts_of_a_machine_add_up() {
    let id = "//compute.googleapis.com/projects/ml/zones/us-central1-a/instances/gke-ml-a3-1f2e";
    let node = "gce://ml/us-central1-a/gke-ml-a3-1f2e";
    let part = |day, hour, sku, cost| Row {
        day,
        hour,
        id,
        unit: "seconds",
        quantity: 374_400.0,
        cost,
        sku,
        words: "A3 Core",
        ..ROW
    };
    let mut rows = hourly(1..4, |day, hour| part(day, hour, "core", 5.5));
    rows.extend(hourly(1..4, |day, hour| part(day, hour, "gpu", 78.0)));
    // The first hour was cut.
    rows[0].cost = 0.5;
    let whole = bill(&rows);
    let told = billed(&whole, node);
    assert_eq!(told.usd_per_hour, usd(83.5));
    // By the day nobody knows how many hours it ran.
    let day = bill(&[Row {
        hours: 24,
        ..part(1, 0, "gpu", 78.0)
    }]);
    let key = machine::of_provider_id(node).unwrap();
    assert!(day.machines.is_empty() && day.unpriced[&key].contains("by the hour"));
    let short = bill(&rows[..3]);
    assert!(short.machines.is_empty() && short.unpriced[&key].contains("few hours"));
    // Two projects have a machine of that name in that zone.
    let other = Row {
        id: "//compute.googleapis.com/projects/x/zones/us-central1-a/instances/gke-ml-a3-1f2e",
        ..part(1, 0, "gpu", 1.0)
    };
    rows.push(other);
    assert!(bill(&rows).unpriced[&key].contains("two resources"));
}

#[test]
fn what_costs_nothing_or_too_much_has_no_price() {
    for cost in [0.0, -5.0, 1e12, 1e300] {
        let odd = bill(&[Row { cost, ..ROW }]);
        assert!(
            odd.machines.is_empty() && odd.unpriced.values().all(|w| w.contains("cost nothing")),
            "{cost}"
        );
    }
}

#[test]
fn unused_commitments_are_counted_by_the_hour() {
    let id = "arn:aws:ec2:us-west-2:111122223333:reserved-instances/b5e8";
    let rows = hourly(1..9, |day, hour| Row {
        day,
        hour,
        id,
        cost: 31.0,
        status: "Unused",
        unit: "NULL",
        ..ROW
    });
    let bill = bill(&rows);
    let unused: Vec<_> = bill.unused.iter().map(|(k, v)| (k.to_lowercase(), *v)).collect();
    assert_eq!(unused, [("p5.48xlarge".to_string(), usd(31.0))]);
    assert!(bill.machines.is_empty());
}

/// An export that was delivered again, or named twice, is paid once; one whose charges have changed meanwhile tells more hours than
/// there are, and no price is made of it.
#[test]
fn no_charge_is_paid_twice() {
    let rows = |cost: f64| hourly(1..9, move |day, hour| Row { day, hour, cost, ..ROW });
    let unused = |day, hour| Row {
        day,
        hour,
        id: "arn:aws:ec2:us-west-2:111122223333:reserved-instances/b5e8",
        cost: 31.0,
        status: "Unused",
        unit: "NULL",
        ..ROW
    };
    let folder = tempfile::tempdir().unwrap();
    let mut first = rows(10.0);
    first.extend(hourly(1..9, unused));
    std::fs::write(folder.path().join("1.csv"), export(&first)).unwrap();
    let one = read(&[folder.path().to_owned()], &Rates::new()).unwrap();
    std::fs::write(folder.path().join("2.csv"), export(&first)).unwrap();
    let both = read(&[folder.path().to_owned(), folder.path().join("1.csv")], &Rates::new()).unwrap();
    assert_eq!((one.repeated, billed(&one, NODE).usd_per_hour), (0, usd(10.0)));
    assert_eq!((&both.machines, &both.unused), (&one.machines, &one.unused));
    assert!(both.repeated >= 2 * 7 * 24, "{}", both.repeated);
    std::fs::write(folder.path().join("2.csv"), export(&rows(11.0))).unwrap();
    let changed = read(&[folder.path().to_owned()], &Rates::new()).unwrap();
    assert!(changed.machines.is_empty());
    assert!(
        changed
            .unpriced
            .values()
            .all(|why| why.contains("more hours of them than a day has"))
    );
    assert_eq!(changed.unpriced.len(), 1);
}

#[test]
fn another_currency_needs_its_rate() {
    let text = export(&[Row { currency: "EUR", ..ROW }]);
    let why = format!("{:#}", of(text.as_bytes(), &Rates::new()).unwrap_err());
    assert!(why.contains("--currency-rate EUR="), "{why}");
    let rates = Rates::from([("EUR".to_string(), 1.5)]);
    assert_eq!(
        billed(&of(text.as_bytes(), &rates).unwrap(), NODE).usd_per_hour,
        usd(15.0)
    );
}

#[test]
fn files_are_read_in_the_forms_that_exports_have() {
    let text = export(&[ROW]);
    let packed = |bytes: &[u8]| {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(bytes).unwrap();
        packer.finish().unwrap()
    };
    let none = Rates::new();
    let plain = of(text.as_bytes(), &none).unwrap().machines;
    assert_eq!(plain.len(), 1);
    assert_eq!(of(&packed(text.as_bytes()), &none).unwrap().machines, plain);
    assert_eq!(of(format!("\u{feff}{text}").as_bytes(), &none).unwrap().machines, plain);
    let folder = tempfile::tempdir().unwrap();
    let below = folder.path().join("BILLING_PERIOD=2026-11");
    std::fs::create_dir(&below).unwrap();
    std::fs::write(below.join("export-00001.csv.gz"), packed(text.as_bytes())).unwrap();
    std::fs::write(folder.path().join("manifest.json"), "{}").unwrap();
    assert_eq!(read(&[folder.path().to_owned()], &none).unwrap().machines, plain);

    let cut = packed(text.repeat(50).as_bytes());
    for (bytes, words) in [
        (&b""[..], "empty"),
        (b"PAR1\x15\x04", "Parquet"),
        (b"\xff\xfea\0", "UTF-16"),
        (b"<html>", "FOCUS 1.0 to 1.2"),
        (b"{\"a\":1}", "FOCUS 1.0 to 1.2"),
        (HEAD.as_bytes(), "no row"),
        (b"a,b\n1,2\n", "ResourceId"),
        (&cut[..cut.len() / 2], "deflate"),
    ] {
        let why = format!("{:#}", of(bytes, &none).unwrap_err());
        assert!(why.contains(words) && why.contains("--focus"), "{words}: {why}");
    }
}

#[test]
fn a_bad_row_loses_only_itself() {
    let mut text = export(&[ROW]);
    text.push_str(&export(&[ROW])[HEAD.len()..].replace(",10,", ",ten,"));
    text.push_str("z,USD,Usage\n");
    let bill = of(text.as_bytes(), &Rates::new()).unwrap();
    assert_eq!(billed(&bill, NODE).usd_per_hour, usd(10.0));
    let (rows, why) = bill.bad_rows.unwrap();
    assert!(
        rows == 1 && why.contains("line 3") && why.contains("'ten' is no number"),
        "{why}"
    );
    let only = format!("{HEAD}{}", export(&[ROW])[HEAD.len()..].replace(",10,", ",ten,"));
    let why = format!("{:#}", of(only.as_bytes(), &Rates::new()).unwrap_err());
    assert!(why.contains("no row can be read"), "{why}");
}
