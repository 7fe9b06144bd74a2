//! What is printed of verdicts.

use crate::results::Verdict;
use std::fmt::Write as _;

/// One line for each test, with its counts; `protocols` are the names of the protocols.
pub fn summary(verdicts: &[Verdict], protocols: &[&str]) -> String {
    let mut text = format!(
        "{:<18} {:<16} {:>10} {:>7} {:>5} {:>9} {:>17}\n",
        "test", "protocol", "executions", "allowed", "seen", "forbidden", "buffered (apart)"
    );
    for verdict in verdicts {
        let (buffered, forbidden) = (verdict.buffered(), verdict.forbidden());
        let seen = verdict.allowed.len() - verdict.unseen().count();
        let buffered = format!("{} ({})", buffered.total(), buffered.apart);
        let _ = writeln!(
            text,
            "{:<18} {:<16} {:>10} {:>7} {:>5} {:>9} {:>17}",
            verdict.test.name,
            protocols[verdict.protocol],
            verdict.iterations(),
            verdict.allowed.len(),
            seen,
            forbidden.map(|(_, count)| count.total()).sum::<u64>(),
            // Where the model knows no such outcome there is nothing to count.
            if verdict.allowed == verdict.sequential { "-" } else { &buffered },
        );
    }
    text
}

/// Every outcome of a test below `heading`: how often it was seen apart and together, and what the models say of it.
pub fn outcomes(verdict: &Verdict, heading: &str) -> String {
    let mut text = format!("\n{heading}\n{:>12} {:>12}\n", "apart", "together");
    for outcome in verdict.seen.keys().chain(verdict.unseen()) {
        let count = verdict.seen.get(outcome).copied().unwrap_or_default();
        let remark = if !verdict.allowed.contains(outcome) {
            "   FORBIDDEN"
        } else if !verdict.sequential.contains(outcome) {
            "   store buffers"
        } else {
            ""
        };
        let described = verdict.test.describe(outcome);
        let _ = writeln!(text, "{:>12} {:>12}   {described}{remark}", count.apart, count.together);
    }
    text
}

/// The outcomes that a test may have, and which of them take store buffers.
pub fn allowed(verdict: &Verdict) -> String {
    let mut text = format!("{}: {} outcomes are allowed\n", verdict.test.name, verdict.allowed.len());
    for outcome in &verdict.allowed {
        let remark = if verdict.sequential.contains(outcome) { "" } else { "   store buffers" };
        let _ = writeln!(text, "    {}{remark}", verdict.test.describe(outcome));
    }
    text
}
