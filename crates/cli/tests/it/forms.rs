// SPDX-License-Identifier: Apache-2.0
//! The same data in each form.

use serde_json::Value;

use crate::world::world;

#[tokio::test]
async fn one_certificate_is_the_same_in_every_form() {
    let world = world().await.read().await;
    let id = world.issued("forms.example.test").await;
    let get = async |form: &str| {
        let ran = world.cli().run(&["cert", "get", &id, "-o", form]).await.ends(0);
        assert_eq!(ran.talk, "", "{form}");
        ran
    };
    let json = get("json").await.json();
    assert_eq!((&json["id"], &json["names"][0]), (&id.as_str().into(), &"forms.example.test".into()));
    let yaml: Value = serde_saphyr::from_str(&get("yaml").await.data).unwrap();
    assert_eq!(yaml, json);
    assert_eq!(get("name").await.data, format!("{id}\n"));
    let (table, wide) = (get("table").await.data, get("wide").await.data);
    let fingerprint = json["version"]["fingerprint_sha256"].as_str().unwrap();
    assert!(table.contains(&id) && !table.contains(fingerprint), "{table}");
    assert!(wide.contains(&id) && wide.contains(fingerprint), "{wide}");
    assert_eq!(world.cli().run(&["cert", "get", &id]).await.data, table, "the table is what nobody asks for");
}

#[tokio::test]
async fn a_list_has_the_same_items_in_every_form() {
    let world = world().await.read().await;
    let id = world.issued("listed.example.test").await;
    let list = async |form: &str| {
        let ran = world.cli().run(&["cert", "list", "--status", "valid", "-o", form]).await.ends(0);
        assert_eq!(ran.talk, "", "{form}");
        ran
    };
    let json = list("json").await.json();
    assert!(json.as_array().unwrap().iter().any(|item| item["id"] == id.as_str()), "{json}");
    let yaml: Value = serde_saphyr::from_str(&list("yaml").await.data).unwrap();
    assert!(yaml.as_array().unwrap().iter().any(|item| item["id"] == id.as_str()), "{yaml}");
    assert!(list("name").await.data.lines().any(|line| line == id));
    let (table, wide) = (list("table").await.data, list("wide").await.data);
    assert!(table.contains(&id) && wide.contains(&id));
    assert!(!table.contains("FINGERPRINT") && wide.contains("FINGERPRINT"), "{wide}");
}

#[tokio::test]
async fn an_empty_list_is_empty_data_and_a_word_to_people() {
    let world = world().await.read().await;
    let list = ["job", "list", "--state", "dead"];
    let table = world.cli().run(&list).await.ends(0).tells(&["nothing to show"]);
    assert_eq!(table.data, "");
    let json = world.cli().run(&[&list[..], &["-o", "json"]].concat()).await.ends(0);
    assert_eq!((json.json(), json.talk.as_str()), (serde_json::json!([]), ""));
    assert_eq!(world.cli().run(&[&list[..], &["-o", "name"]].concat()).await.ends(0).data, "");
}
