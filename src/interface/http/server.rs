//! Listening, serving and stopping.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::{Limits, router};
use crate::gateway::Gateway;

/// How long requests that are under way may take once the server is told to stop.
const GRACE: Duration = Duration::from_secs(30);

/// Takes `address` (`127.0.0.1:8080`; port 0 for any that is free).
///
/// # Errors
/// With the address and the likely remedy, when it cannot be had.
pub async fn bind(address: &str) -> io::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let what = match error.kind() {
            io::ErrorKind::AddrInUse => "another process is listening there".to_owned(),
            io::ErrorKind::PermissionDenied => "this user may not listen there".to_owned(),
            io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
            _ => error.to_string(),
        };
        io::Error::new(error.kind(), format!("cannot listen on {address}: {what}"))
    })
}

/// Serves `gateway` on `listener` until `shutdown` completes; then takes no more requests, and gives those under way
/// half a minute to end.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(
    gateway: Arc<Gateway>,
    listener: TcpListener,
    limits: Limits,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    serve_routes(router(gateway, limits), listener, shutdown, GRACE).await
}

/// [`serve`] for any routes and any grace.
pub(super) async fn serve_routes(
    routes: Router,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
    grace: Duration,
) -> io::Result<()> {
    let (stopping, stopped) = oneshot::channel();
    let signal = async move {
        shutdown.await;
        info!("no more requests are taken");
        // The other end is gone only when serving has ended already, and then there is nobody to tell.
        let _ = stopping.send(());
    };
    let served = async { axum::serve(listener, routes).with_graceful_shutdown(signal).await };
    let patience = async {
        match stopped.await {
            Ok(()) => tokio::time::sleep(grace).await,
            // The sender is dropped unsent only together with `served`, which then has the last word.
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        result = served => result,
        () = patience => {
            warn!("some requests were still under way and are given up");
            Ok(())
        }
    }
}

/// Completes when the process is asked to stop (SIGINT, SIGTERM).
pub async fn shutdown_signal() {
    let interrupt = async {
        if let Err(error) = tokio::signal::ctrl_c().await {
            warn!(%error, "SIGINT cannot be awaited");
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(error) => {
                warn!(%error, "SIGTERM cannot be awaited");
                std::future::pending::<()>().await;
            }
        }
    };
    #[cfg(not(unix))]
    let terminate = std::future::pending::<()>();
    tokio::select! {
        () = interrupt => {}
        () = terminate => {}
    }
}
