//! The study of the rule that chooses an epoch without labels, in its small form.

#[path = "../../examples/selection_study/main.rs"]
mod example;

use example::{Study, shifts, study};

#[test]
#[ignore = "takes long: .ci/run runs it"]
fn the_small_form_ends_and_goes_on_where_it_was() {
    let out = tempfile::tempdir().unwrap();
    let first = study(&Study::quick(), out.path()).unwrap().to_string();
    assert!(first.contains("kept apart") && first.contains("signals") && first.lines().count() >= 7, "{first}");
    let runs = std::fs::read_dir(out.path().join("runs")).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir());
    assert_eq!(runs.count(), 4);
    let table = std::fs::read_to_string(out.path().join("study.csv")).unwrap();
    assert_eq!(table.lines().count(), 5);
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.rsplit(',').collect();
        let number = |at: usize| fields[at].parse::<f64>().unwrap();
        assert!(number(0) >= number(2) && number(0) >= number(3), "the oracle is beaten: {line}");
    }
    assert_eq!(study(&Study::quick(), out.path()).unwrap().to_string(), first);
    assert!(shifts().len() >= Study::whole().shifts && Study::whole().seeds.iter().any(|seed| *seed >= 602));
}
