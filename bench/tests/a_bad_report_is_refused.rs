//! Reports come from files that people move about, cut short and edit. Whatever such a file holds, reading it must end in a report
//! whose numbers can be, or in an error that says what was found and what to do.

mod made_up;

use made_up::{figure, report};
use pagemesh_bench::{Report, ReportError, document};
use std::path::Path;

fn parse(text: &str) -> Result<Report, ReportError> {
    Report::parse(Path::new("made-up.json"), text.as_bytes())
}

fn good() -> Report {
    let mut rate = figure("bulk", &[3.0, 4.0], Some(&[2.0, 2.0]));
    rate.bytes = Some(4096);
    report(vec![figure("read", &[20.0, 21.0], Some(&[10.0, 11.0])), rate])
}

#[test]
fn a_report_survives_its_json() {
    assert_eq!(parse(&good().to_json()).unwrap(), good());
}

#[test]
fn what_is_no_json_or_no_report_is_refused() {
    let text = good().to_json();
    for bad in ["", "{", "[]", "null", "\"report\"", "{}", &text[..text.len() / 2], "{\"schema\": \"1\"}"] {
        let error = parse(bad).unwrap_err();
        assert!(matches!(error, ReportError::Format { .. }), "{bad:?}: {error}");
        assert!(error.to_string().contains("made-up.json"), "{error}");
    }
    let unknown = text.replacen("\"machine\"", "\"colour\": \"red\", \"machine\"", 1);
    assert!(parse(&unknown).unwrap_err().to_string().contains("colour"));
}

#[test]
fn another_schema_is_named() {
    let mut other = good();
    other.schema = 1;
    let error = parse(&other.to_json()).unwrap_err();
    assert!(matches!(error, ReportError::Schema { found: 1, .. }), "{error}");
    assert!(error.to_string().contains("schema 1"), "{error}");
}

#[test]
fn numbers_that_cannot_be_are_refused() {
    type Spoil = fn(&mut Report);
    let spoils: [Spoil; 7] = [
        |report| report.runs[0].figures[0].measured.rounds.clear(),
        |report| report.runs[0].figures[0].measured.rounds.truncate(1),
        |report| report.runs[0].figures[0].measured.all.samples = 0,
        |report| report.runs[0].figures[0].measured.rounds[1].p50 = -1.0,
        |report| report.runs[0].figures[0].measured.all.p99 = 0.5,
        |report| report.runs[0].figures[1].bytes = Some(0),
        |report| {
            let baseline = report.runs[0].figures[0].baseline.as_mut().unwrap();
            baseline.measured.rounds[0].p50 = 0.0;
        },
    ];
    for (number, spoil) in spoils.into_iter().enumerate() {
        let mut bad = good();
        spoil(&mut bad);
        let error = parse(&bad.to_json()).unwrap_err();
        assert!(matches!(error, ReportError::Format { .. }), "{number}: {error}");
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Report::load(Path::new("/nowhere/at-all.json")).unwrap_err();
    assert!(matches!(error, ReportError::Read { .. }), "{error}");
    assert!(error.to_string().contains("/nowhere/at-all.json"), "{error}");
}

#[test]
fn tables_go_between_the_marks_and_nowhere_else() {
    let text = "before\n<!-- bench tables: begin -->\nold\n<!-- bench tables: end -->\nafter\n";
    let once = document::with_tables(text, &good()).unwrap();
    assert!(once.starts_with("before\n<!-- bench tables: begin -->\n"), "{once}");
    assert!(once.ends_with("<!-- bench tables: end -->\nafter\n"), "{once}");
    assert!(once.contains("| read |") && !once.contains("old"), "{once}");
    assert_eq!(document::with_tables(&once, &good()).unwrap(), once);
    for bad in ["", "<!-- bench tables: begin -->", "<!-- bench tables: end --> <!-- bench tables: begin -->"]
    {
        assert_eq!(document::with_tables(bad, &good()), Err(document::NoMarks));
    }
}
