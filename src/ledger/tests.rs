//! What every storage must do, as functions over `&dyn Store`, and the storages that they run on.

mod charging;
mod decisions;
mod identities;
mod releases;
mod reports;
mod retention;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::*;
use crate::accounting::{Accounting, Delta, Epsilon, Limit, Loss, Rho};

/// Runs every listed test on every storage, each on a ledger of its own that must pass its check at the end, and again
/// once it is reopened.
macro_rules! on_every_storage {
    ($($group:ident: [$($test:ident),* $(,)?],)*) => {
        mod on_sqlite {
            $(
                mod $group {
                    $(
                        #[tokio::test]
                        async fn $test() {
                            let folder = tempfile::tempdir().unwrap();
                            let url = format!("sqlite://{}", folder.path().join("ledger.db").display());
                            crate::ledger::tests::holds_on!(&url, $group::$test);
                        }
                    )*
                }
            )*
        }
        mod on_postgres {
            $(
                mod $group {
                    $(
                        #[tokio::test]
                        async fn $test() {
                            let schema = concat!(stringify!($group), "_", stringify!($test));
                            let url = crate::ledger::tests::postgres(schema).await;
                            crate::ledger::tests::holds_on!(&url, $group::$test);
                        }
                    )*
                }
            )*
        }
    };
}

/// One test on one storage.
macro_rules! holds_on {
    ($url:expr, $group:ident::$test:ident) => {
        let store = crate::ledger::open($url).await.unwrap();
        crate::ledger::tests::$group::$test(&*store).await;
        let report = store.check().await.unwrap();
        drop(store);
        let reopened = crate::ledger::open($url).await.unwrap();
        assert_eq!(reopened.check().await.unwrap(), report);
    };
}
use holds_on;

/// The variable that names a PostgreSQL in which tests may make schemas.
const POSTGRES: &str = "TOLLGATE_TEST_POSTGRES";

/// The address of a new schema of its own for a test.
pub(crate) async fn postgres(test: &str) -> String {
    use sqlx::{ConnectOptions, Executor};
    let server = std::env::var(POSTGRES).unwrap_or_else(|_| {
        panic!("{POSTGRES} names no server: run the tests with `./test`, which starts one, or set it to one that tests may \
             make schemas in, such as postgres://postgres@127.0.0.1:5432/postgres")
    });
    // PostgreSQL cuts names off at 63 bytes; a hash keeps them apart.
    let schema = format!("t_{}", &blake3::hash(format!("{test} {}", std::process::id()).as_bytes()).to_hex()[..24]);
    let options: sqlx::postgres::PgConnectOptions = server.parse().unwrap();
    let mut connection = options.connect().await.unwrap();
    let fresh = format!("DROP SCHEMA IF EXISTS {schema} CASCADE; CREATE SCHEMA {schema}");
    connection.execute(sqlx::AssertSqlSafe(fresh)).await.unwrap();
    let joint = if server.contains('?') { '&' } else { '?' };
    format!("{server}{joint}options=-c%20search_path%3D{schema}")
}

on_every_storage!(
    charging: [
        a_charge_is_paid_by_all_its_accounts,
        a_charge_that_one_account_cannot_pay_charges_none,
        the_last_step_of_a_budget_can_be_spent_and_no_more,
        delta_runs_out_as_loss_does,
        paying_twice_for_one_release_is_free,
        a_finer_release_is_paid_for,
        what_was_paid_but_never_drawn_covers_what_costs_no_more,
        a_dearer_delta_is_not_covered_by_a_cheaper_one,
        the_same_draw_is_charged_to_all_consumers_once,
        another_precision_is_another_draw,
        laplace_noise_on_a_zcdp_account_pays_its_converted_loss,
        accounting_that_changed_is_refused,
        an_idempotency_key_answers_for_its_charge,
        an_idempotency_key_conflicts_with_anything_else,
        charges_that_could_spend_for_nothing_are_refused,
        windows_are_accounts_of_their_own,
        the_releases_of_a_query_are_paid_together_or_not_at_all,
    ],
    decisions: [
        an_agency_pays_for_its_consumers_and_no_other,
        a_unit_domain_bounds_what_is_learnt_of_all_its_datasets,
        epochs_are_accounts_of_their_own,
        what_waits_for_approval_is_reserved_until_it_expires,
        a_no_gives_back_what_was_reserved,
        a_yes_that_is_taken_back_takes_every_yes_with_it,
        an_approved_request_makes_its_grant,
        policies_are_kept_in_every_version,
        every_decision_is_in_the_log,
        those_who_wait_together_are_decided_one_by_one,
    ],
    releases: [
        another_delta_is_another_draw,
        the_first_stored_draw_wins,
        a_draw_must_have_been_paid_for,
        the_same_cost_at_another_precision_is_another_draw,
        a_consumer_is_shown_only_what_it_paid_for,
    ],
    identities: [
        unknown_and_frozen_consumers_are_refused,
        names_cannot_run_into_one_another,
        grants_are_kept_exactly,
        consumers_are_listed_by_name,
        tokens_prove_their_role_until_revoked,
        tokens_must_fit_their_role,
    ],
    reports: [
        what_a_consumer_pays_is_counted_once,
        a_lifetime_is_every_charge_once,
        noise_is_grouped_by_what_was_drawn,
        the_dearest_queries_come_first,
        a_threshold_is_noted_once,
    ],
    retention: [
        what_is_old_goes_and_what_is_needed_stays,
        what_no_time_is_set_for_is_kept,
        much_is_forgotten_a_little_at_a_time,
    ],
);

const FLIGHTS: &str = "united.flights";

/// Who does what is not a query, in tests.
pub(super) const OPERATOR: Actor = Actor::command_line();

pub(super) fn noon() -> DateTime<Utc> {
    DateTime::from_timestamp(1_790_000_000, 0).unwrap()
}

pub(super) fn consumer_account(consumer: &str, dataset: &str) -> Account {
    Account { scope: Scope::Consumer(consumer.into()), dataset: dataset.into(), window: "lifetime".into(), epoch: None }
}

pub(super) fn all_consumers_account(dataset: &str) -> Account {
    Account { scope: Scope::AllConsumers, dataset: dataset.into(), window: "lifetime".into(), epoch: None }
}

fn zcdp_cost(rho: u64, delta: u64) -> Cost {
    Cost { loss: Loss::Zcdp(Rho::from_steps(rho)), delta: Delta::from_steps(delta) }
}

fn zcdp_limit(rho: u64, delta: u64) -> Limit {
    Limit { loss: Loss::Zcdp(Rho::from_steps(rho)), delta: Delta::from_steps(delta) }
}

fn zcdp_spent(rho: u64, delta: u64) -> Spent {
    Spent { loss: Loss::Zcdp(Rho::from_steps(rho)), delta: Delta::from_steps(delta) }
}

/// A charge on `dataset`'s two accounts of (`rho`, 1), of 100 each for the consumer and 1000 for all.
pub(super) fn charge_on(dataset: &str, consumer: &str, release: u8, rho: u64) -> Charge {
    Charge {
        consumer: consumer.into(),
        release: ReleaseKey([release; 32]),
        precision: rho,
        accounts: vec![
            AccountCharge {
                account: consumer_account(consumer, dataset),
                limit: zcdp_limit(100, 100),
                cost: zcdp_cost(rho, 1),
            },
            AccountCharge {
                account: all_consumers_account(dataset),
                limit: zcdp_limit(1000, 1000),
                cost: zcdp_cost(rho, 1),
            },
        ],
        idempotency: None,
        query: QueryRecord {
            query_id: Uuid::from_u128(u128::from(release)),
            sql: "SELECT count(*) FROM united.flights".into(),
            purpose: Some("statistics".into()),
            datasets: vec![dataset.into()],
            events: "[]".into(),
            summable: None,
        },
        at: noon(),
        reservation: None,
    }
}

fn charge(consumer: &str, release: u8, rho: u64) -> Charge {
    charge_on(FLIGHTS, consumer, release, rho)
}

fn with_delta(mut charge: Charge, delta: u64) -> Charge {
    for line in &mut charge.accounts {
        line.cost.delta = Delta::from_steps(delta);
    }
    charge
}

fn with_key(mut charge: Charge, key: &str, request: u8) -> Charge {
    charge.idempotency = Some(Idempotency { key: key.into(), request_hash: [request; 32] });
    charge
}

async fn charged(store: &dyn Store, charge: &Charge) -> ChargeId {
    match store.charge(charge).await.unwrap() {
        ChargeOutcome::Charged { charge_id, .. } => charge_id,
        other => panic!("{other:?}"),
    }
}

/// What the two accounts of a consumer on [`FLIGHTS`] have spent.
async fn spent(store: &dyn Store, consumer: &str) -> [Option<Spent>; 2] {
    let accounts = [consumer_account(consumer, FLIGHTS), all_consumers_account(FLIGHTS)];
    store.spent(&accounts).await.unwrap().try_into().unwrap()
}

#[test]
fn the_store_can_be_shared() {
    fn shared<T: Send + Sync + ?Sized + 'static>() {}
    shared::<Arc<dyn Store>>();
    shared::<LedgerError>();
}
