//! The engine's threads beside one that serves.

use std::future::Future;
use std::pin::pin;
use std::sync::mpsc;
use std::task::{Context, Waker};

use tokio::sync::oneshot;

use super::Threads;

/// On one thread that serves: were the work done there, it would wait for itself for ever.
#[tokio::test]
async fn what_computes_keeps_nobody_else_waiting() {
    let threads = Threads::new(Some(1)).unwrap();
    let (tell, told) = mpsc::channel();
    let heavy = threads.run(async move { Ok(told.recv().is_ok()) });
    let served = async move { tell.send(()).is_ok() };
    let (heavy, served) = tokio::join!(heavy, served);
    assert!(heavy.unwrap() && served);
}

#[tokio::test]
async fn work_ends_when_its_caller_goes_away() {
    let threads = Threads::new(Some(1)).unwrap();
    let (held, ended) = oneshot::channel::<()>();
    {
        let work = async move {
            let _held = held;
            std::future::pending().await
        };
        let mut run = pin!(threads.run::<()>(work));
        assert!(run.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    // What the work held is dropped with it.
    assert!(ended.await.is_err());
}

#[tokio::test]
async fn a_panic_there_is_an_error_here() {
    let threads = Threads::new(Some(1)).unwrap();
    assert!(threads.run::<()>(async { panic!("a test's own") }).await.is_err());
    assert_eq!(threads.run(async { Ok(1) }).await.unwrap(), 1);
}
