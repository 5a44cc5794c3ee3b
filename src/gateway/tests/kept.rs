//! A draw is kept before anything that depends on it is told, whatever becomes of the answer.

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;

use super::overload::{ask, gateway};
use crate::config;
use crate::gateway::{Answer, Code, Gateway};

fn number(answer: &Answer) -> i64 {
    let rows = answer.rows.as_ref().unwrap();
    rows[0].column(0).as_primitive::<Int64Type>().value(0)
}

/// What is computed from the draw fails, and says on which value: asked again it must be that value, and not another draw of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_cannot_be_computed_has_its_draw_kept() {
    let (gateway, _dir) = gateway(config::Engine::default()).await;
    let count = "(SELECT count(*) AS n FROM united.flights) AS t";
    let fails = format!("SELECT CAST(CAST(n AS VARCHAR) || 'x' AS BIGINT) AS broken FROM {count}");
    let first = ask(&gateway, "a", &fails, false).await.unwrap_err();
    assert_eq!(first.code, Code::SqlInvalid, "{first}");
    assert_eq!(gateway.store.check().await.unwrap().held_releases, 1);
    let answer = ask(&gateway, "a", &format!("SELECT n FROM {count}"), false).await.unwrap();
    assert!(answer.privacy.cached);
    assert!(first.detail.contains(&format!("{}x", number(&answer))), "{first}");
    assert_eq!(ask(&gateway, "a", &fails, false).await.unwrap_err(), first);
    assert_eq!(gateway.store.check().await.unwrap().held_releases, 1);
}

/// Two gateways on one storage draw the same release at the same time for two consumers: both are shown the draw that was kept
/// first, and each answer is in the log once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_gateways_that_draw_one_is_shown() {
    let (one, dir) = gateway(config::Engine::default()).await;
    let other = Gateway::open(&one.config).await.unwrap();
    for hour in 1..=12 {
        let sql = format!("SELECT count(*) AS n FROM united.flights WHERE hour > {hour}");
        let (of_a, of_b) = tokio::join!(ask(&one, "a", &sql, false), ask(&other, "b", &sql, false));
        let (of_a, of_b) = (of_a.unwrap(), of_b.unwrap());
        assert_eq!(of_a.rows, of_b.rows);
        let (a, b) = (of_a.receipt.unwrap().log_index, of_b.receipt.unwrap().log_index);
        let entries = one.store.log_entries(0, 1000, &[]).await.unwrap();
        for place in [a, b] {
            let entry = &entries[usize::try_from(place).unwrap()].entry;
            assert!(entry.contains("\"kind\":\"answer\""), "{entry}");
        }
        // Asked again, of the other gateway: the same.
        assert_eq!(ask(&other, "a", &sql, false).await.unwrap().rows, of_a.rows);
    }
    let report = one.store.check().await.unwrap();
    assert_eq!((report.charges, report.held_releases), (24, 12));
    // Of the two charges of a draw, one is logged as that which drew, and the other as that which was shown it.
    let entries = one.store.log_entries(0, 1000, &[]).await.unwrap();
    let of_kind =
        |kind: &str| entries.iter().filter(|entry| entry.entry.contains(&format!("\"kind\":\"{kind}\""))).count();
    assert_eq!((of_kind("shown"), of_kind("answer")), (12, 36));
    drop(dir);
}

/// The same where nothing can be computed from the draws: both tell of the one that was kept, and of no other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_gateways_that_draw_an_error_tells_of_one() {
    let (one, _dir) = gateway(config::Engine::default()).await;
    let other = Gateway::open(&one.config).await.unwrap();
    for hour in 1..=12 {
        let count = format!("(SELECT count(*) AS n FROM united.flights WHERE hour > {hour}) AS t");
        let fails = format!("SELECT CAST(CAST(n AS VARCHAR) || 'x' AS BIGINT) AS broken FROM {count}");
        let told = tokio::join!(ask(&one, "a", &fails, false), ask(&other, "a", &fails, false));
        let kept = ask(&one, "a", &format!("SELECT n FROM {count}"), false).await.unwrap();
        assert!(kept.privacy.cached);
        let (first, second) = (told.0.unwrap_err(), told.1.unwrap_err());
        assert!(first.detail.contains(&format!("{}x", number(&kept))), "{first}");
        assert_eq!(first, second);
    }
}
