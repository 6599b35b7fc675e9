//! A price file to fill in.

use super::CapacityType;
use crate::instances;

/// A price file to fill in: the instance types given (or an example), with today's catalogue price as a comment.
pub fn template(types: &[(String, Option<String>, CapacityType)]) -> String {
    let mut text = String::from(
        "# Your prices. The first entry that matches a node wins; '*' matches any run of characters.\n\
         # Keys: cluster, node, instance_type, region, capacity_type (on-demand, spot, reserved, capacity-block, owned), gpu;\n\
         # usd_per_hour is the whole node's price, usd_per_gpu_hour one GPU's; discount = 0.4 takes 40 % off it, or off the catalogue's.\n\
         # currency = \"EUR\" needs rate (US dollars of one). as_of = 2026-11-01 is when you looked it up;\n\
         # committed_until = 2027-06-30: reserved or committed, so that emptying a node stops no bill before.\n",
    );
    let example = [(
        "p5.48xlarge".to_string(),
        Some("us-east-1".to_string()),
        CapacityType::Reserved,
    )];
    for (instance_type, region, capacity) in if types.is_empty() { &example[..] } else { types } {
        let row = instances::of_type(instance_type)
            .find(|r| r.can_be_rented() && region.as_deref().is_none_or(|x| x == r.region));
        let list = row.and_then(|r| r.price(CapacityType::OnDemand).map(|p| (p, &r.as_of)));
        text.push_str("\n[[price]]\n");
        text.push_str(&format!("instance_type = \"{instance_type}\"\n"));
        if let Some(region) = region {
            text.push_str(&format!("region = \"{region}\"\n"));
        }
        if let Some(capacity) = capacity.name() {
            text.push_str(&format!("capacity_type = \"{capacity}\"\n"));
        }
        match list {
            Some((usd, as_of)) => text.push_str(&format!(
                "usd_per_hour = {}  # on-demand list price of {as_of}: put yours\n",
                usd.usd()
            )),
            None => text.push_str("usd_per_hour = 1.00  # not in the catalogue: put yours\n"),
        }
    }
    text
}
