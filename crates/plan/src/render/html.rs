//! One self-contained page without scripts: the bill over the steps, every node before and after, the steps with their commands.

use super::{STATES, letter, read_at, summary};
use crate::document::{Plan, Step};
use crate::judge::report::text::{known, plain};
use crate::units::UsdPerHour;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};
use std::io::{self, Write};

const CSS: &str = include_str!("plan.css");

pub(super) fn render(plan: &Plan, out: &mut dyn Write) -> io::Result<()> {
    let hash = BASE64_STANDARD.encode(Sha256::digest(CSS.as_bytes()));
    let csp =
        format!("default-src 'none'; style-src 'sha256-{hash}'; img-src data:; base-uri 'none'; form-action 'none'");
    let t = &plan.totals;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(csp);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="referrer" content="no-referrer";
                meta name="generator" content={ "gpuwaste " (plan.tool_version) };
                title { "GPU plan: " (known(t.spend_usd_per_hour)) " to " (known(t.spend_after_usd_per_hour)) }
                link rel="icon" href="data:,";
                style { (PreEscaped(CSS)) }
            }
            body {
                h1 { (known(t.spend_usd_per_hour)) " → " (known(t.spend_after_usd_per_hour)) }
                p.lead { (summary(t)) ". The fleet as it was at " (read_at(plan)) "; gpuwaste carries out none of it." }
                @for refused in &plan.refused {
                    p.refused { "No plan for " b { (plain(&refused.cluster)) } ": " (refused.reason) "; " (refused.remedy) "." }
                }
                (curve(plan))
                (picture(plan))
                (steps(&plan.steps))
                (pinned(plan))
                (stays(plan))
                (others(plan))
            }
        }
    };
    out.write_all(page.into_string().as_bytes())?;
    writeln!(out)
}

/// The bill, a stair down.
fn curve(plan: &Plan) -> Markup {
    const WIDTH: f64 = 880.0;
    const HEIGHT: f64 = 160.0;
    let bills: Vec<f64> = plan
        .totals
        .spend_usd_per_hour
        .into_iter()
        .chain(plan.steps.iter().filter_map(|s| s.bill_after_usd_per_hour))
        .map(UsdPerHour::usd)
        .collect();
    let most = bills.iter().copied().fold(0.0, f64::max);
    if plan.steps.is_empty() || most <= 0.0 {
        return html! {};
    }
    let x = |i: usize| i as f64 / bills.len() as f64 * WIDTH;
    let y = |usd: f64| HEIGHT - usd / most * (HEIGHT - 10.0);
    let mut path = String::new();
    for (i, usd) in bills.iter().enumerate() {
        path.push_str(&format!(
            "{}{:.1},{:.1} H{:.1} ",
            if i == 0 { "M" } else { "L" },
            x(i),
            y(*usd),
            x(i + 1)
        ));
    }
    html! {
        section {
            h2 { "The bill over the steps" }
            svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT + 20.0) } role="img" aria-label="USD per hour after each step" {
                path.area d={ (path) "V" (HEIGHT) " H0 Z" } {}
                path.line d=(path) {}
                text x="4" y="24" { (known(plan.totals.spend_usd_per_hour)) }
                text x=(WIDTH - 4.0) y=(y(bills.last().copied().unwrap_or(0.0)) - 6.0) text-anchor="end" { (known(plan.totals.spend_after_usd_per_hour)) }
                text x="4" y=(HEIGHT + 15.0) { "step 0" }
                text x=(WIDTH - 4.0) y=(HEIGHT + 15.0) text-anchor="end" { "step " (plan.steps.len()) }
            }
        }
    }
}

fn cells(states: &[String]) -> Markup {
    html! {
        span.cells {
            @for state in states {
                @let known = if STATES.contains(&state.as_str()) { state.as_str() } else { "unknown" };
                span.cell.(known) title=(known) { (letter(state)) }
            }
        }
    }
}

fn picture(plan: &Plan) -> Markup {
    html! {
        section {
            h2 { "Nodes before and after" }
            p.legend { @for state in STATES { (cells(&[state.to_string()])) " " (state) "  " } }
            table {
                thead { tr { th { "node" } th { "GPU" } th { "$/h" } th { "before" } th { "after" } } }
                tbody {
                    @for node in &plan.nodes {
                        tr.gone[node.returned] {
                            td { (plain(&node.name)) }
                            td { (plain(&node.gpu)) }
                            td.num { (known(node.usd_per_hour)) @if !node.bill_stops { " (stays)" } }
                            td { (cells(&node.before)) }
                            td { @if node.returned { "goes" } @else { (cells(&node.after)) } }
                        }
                    }
                }
            }
        }
    }
}

fn steps(steps: &[Step]) -> Markup {
    html! {
        section {
            h2 { "Steps" }
            @if steps.is_empty() { p { "There are none." } }
            ol {
                @for step in steps {
                    li {
                        p { (plain(&step.what)) " " span.bill { "bill after it: " (known(step.bill_after_usd_per_hour)) } }
                        p.risk { "Risk: " (plain(&step.risk)) "." }
                        @if !step.findings.is_empty() { p.risk { "Findings: " (step.findings.join(", ")) } }
                        details {
                            summary { "Commands, and the way back" }
                            pre { @for c in &step.commands { (c) "\n" } }
                            pre.undo { @for c in &step.undo { (c) "\n" } }
                        }
                    }
                }
            }
        }
    }
}

fn pinned(plan: &Plan) -> Markup {
    html! {
        @if !plan.pinned.is_empty() {
            section {
                h2 { "What no step moves" }
                ul { @for p in &plan.pinned { li { (plain(&super::pinned(p))) } } }
            }
        }
    }
}

fn others(plan: &Plan) -> Markup {
    html! {
        @if !plan.by_person.is_empty() {
            section {
                h2 { "Allowed, and not a step" }
                ul { @for other in &plan.by_person { li { (plain(&other.what)) " (" (known(other.usd_per_hour)) ")" } } }
            }
        }
    }
}

fn stays(plan: &Plan) -> Markup {
    html! {
        @if !plan.stays.is_empty() {
            section {
                h2 { "What stays, and why" }
                table {
                    thead { tr { th { "node" } th { "$/h" } th { "why" } } }
                    tbody {
                        @for stay in &plan.stays {
                            tr {
                                td { (plain(&stay.node)) }
                                td.num { (known(stay.usd_per_hour)) }
                                td {
                                    @if let Some(reason) = &stay.reason { p { (reason) } }
                                    @for pod in &stay.pods {
                                        p { (plain(&pod.pod)) ": " (plain(&pod.reason)) @if pod.by_person { " (a person can move it)" } }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
