use serde_json::json;

use super::*;

fn map(database: &str, suffix: &str, node: &str) -> ShardMap {
    let ranges = ["00000000-7fffffff", "80000000-ffffffff"];
    let document = json!({
        "_id": database, "_rev": "1-a", "shard_suffix": suffix.as_bytes(), "props": {},
        "changelog": [["add", ranges[0], node], ["add", ranges[1], node]],
        "by_node": {node: ranges},
        "by_range": {ranges[0]: [node], ranges[1]: [node]}
    });
    ShardMap::parse(database.to_owned(), document).unwrap()
}

fn maps(maps: impl IntoIterator<Item = ShardMap>) -> ShardMaps {
    let maps = maps.into_iter();
    ShardMaps(maps.map(|map| (map.database.clone(), map)).collect())
}

fn files(names: &[&str]) -> Files {
    names.iter().map(|name| name.as_bytes().to_vec()).collect()
}

#[test]
fn a_map_is_given_to_another_node() {
    let map = map("patients", ".1", "couchdb@old").document;
    let text = map.to_string();
    let given = given(&map, "couchdb@old", "couchdb@new").unwrap();
    assert_eq!(
        given.to_string(),
        text.replace("couchdb@old", "couchdb@new")
    );
}

#[test]
fn a_map_of_others_stays() {
    let map = map("x", ".1", "couchdb@new").document;
    assert_eq!(given(&map, "couchdb@old", "couchdb@new"), None);
}

#[test]
fn a_range_without_its_file_is_named() {
    let all_maps = maps([map("org/odd+name", ".17", "n"), map("users", ".18", "n")]);
    let all = [
        "shards/00000000-7fffffff/org/odd+name.17.couch",
        "shards/80000000-ffffffff/org/odd+name.17.couch",
        "shards/00000000-7fffffff/users.18.couch",
        "shards/80000000-ffffffff/users.18.couch",
    ];
    assert!(all_maps.ensure_files_are_in(&files(&all)).is_ok());
    let error = all_maps.ensure_files_are_in(&files(&all[1..])).unwrap_err();
    assert!(
        error
            .to_string()
            .contains(&format!("missing in the data directory: {};", all[0]))
    );
    let error = all_maps
        .ensure_files_are_in(&files(&["_dbs.couch"]))
        .unwrap_err();
    assert!(error.to_string().contains(all[3]), "{error}");
}

#[test]
fn what_was_deleted_or_made_anew_meanwhile_is_not_expected() {
    let before = maps([
        map("anew", ".1", "n"),
        map("deleted", ".2", "n"),
        map("same", ".3", "n"),
    ]);
    let later = maps([
        map("anew", ".9", "n"),
        map("created", ".8", "n"),
        map("same", ".3", "n"),
    ]);
    let (same, anew) = before.still_in(&later);
    assert_eq!(
        same.iter().map(|map| &*map.database).collect::<Vec<_>>(),
        ["same"]
    );
    assert_eq!(anew, ["anew"]);
}

#[test]
fn a_range_of_another_node_is_not_here() {
    let both = maps([map("a", ".1", "here"), map("b", ".2", "there")]);
    let error = both.ensure_all_is_on("here").unwrap_err().to_string();
    assert!(
        error.contains("database b keeps shards/00000000-7fffffff/b.2.couch on there"),
        "{error}"
    );
    assert!(
        maps([map("a", ".1", "here")])
            .ensure_all_is_on("here")
            .is_ok()
    );
}

#[test]
fn a_map_that_is_not_one_is_told() {
    for document in [
        json!({"_id": "x"}),
        json!({"_id": "x", "shard_suffix": "1", "by_range": {}}),
        json!({"_id": "x", "shard_suffix": [46], "by_range": {}}),
        json!({"_id": "x", "shard_suffix": [255], "by_range": {"0": ["n"]}}),
    ] {
        assert!(
            ShardMap::parse("x".to_owned(), document.clone()).is_err(),
            "{document}"
        );
    }
}
