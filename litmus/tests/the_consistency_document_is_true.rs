//! docs/consistency.md tells which outcomes each test may have. The tests and the model decide that; the document is held against them.

use pagemesh_litmus::{Model, outcomes, shapes};
use std::collections::BTreeMap;
use std::path::Path;

/// What the document says of each test: how many outcomes are allowed, and how many of them take store buffers.
fn told() -> BTreeMap<String, (usize, usize)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/consistency.md");
    let text = std::fs::read_to_string(path).expect("the document is there");
    let (_, table) = text.split_once("<!-- outcomes: begin -->").expect("the table has a beginning");
    let (table, _) = table.split_once("<!-- outcomes: end -->").expect("the table has an end");
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        let number = |cell: &str| cell.parse().unwrap_or_else(|_| panic!("{line}: {cell:?} is no number"));
        (cells[1].to_owned(), (number(cells[2]), number(cells[3])))
    };
    rows.map(row).collect()
}

#[test]
fn every_test_is_told_with_what_the_model_allows() {
    let mut told = told();
    for test in shapes::all() {
        let allowed = outcomes(Model::TotalStoreOrder, &test);
        let buffered = allowed.difference(&outcomes(Model::Sequential, &test)).count();
        assert_eq!(told.remove(&test.name), Some((allowed.len(), buffered)), "{}", test.name);
    }
    assert!(told.is_empty(), "there are no such tests: {told:?}");
}
