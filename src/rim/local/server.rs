//! The HTTP front door of `sluice serve`, and of everything else that listens.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming as Body};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use crate::intake::{Answer, MAX_BODY};

/// How long a client may take for its headers, and then for its body.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections that are open at once; further ones wait to be accepted.
const MOST_CONNECTIONS: usize = 512;
/// Bytes of bodies that are in memory at once, from the first that comes in until the request is answered. What would
/// pass it is told at once to come again.
const ROOM: usize = 32 * 1024 * 1024;
/// What a connection reads ahead at most, in bytes; no head is larger.
const READ_AHEAD: usize = 64 * 1024;
/// How long connections may take to end when the server stops.
const DRAIN: Duration = Duration::from_secs(10);

/// A request, completely read; its body is at most [`MAX_BODY`].
pub type WholeRequest = Request<Bytes>;
/// An answer.
pub type WholeResponse = Response<Full<Bytes>>;

/// Answers requests on `listener` until `stop` becomes true, and then lets those under way end.
pub async fn serve<H, F>(listener: TcpListener, handle: H, mut stop: watch::Receiver<bool>)
where
    H: Fn(WholeRequest, SocketAddr) -> F + Send + Sync + 'static,
    F: Future<Output = WholeResponse> + Send + 'static,
{
    let handle = Arc::new(handle);
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let room = Arc::new(Semaphore::new(ROOM));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stop) => break,
            Some(_) = connections.join_next() => continue,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, mostly: give those in use a moment to end.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        // Answers are small and must not wait for more to come.
        let _ = stream.set_nodelay(true);
        let Ok(place) = places.clone().acquire_owned().await else { break };
        let (handle, room, mut stop) = (handle.clone(), room.clone(), stop.clone());
        connections.spawn(async move {
            let service = service_fn(move |request: Request<Body>| {
                let (handle, room) = (handle.clone(), room.clone());
                async move { Ok::<_, Infallible>(whole(request, peer, handle.as_ref(), &room).await) }
            });
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(READ_AHEAD);
            let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
            tokio::select! {
                _ = connection.as_mut() => {}
                () = stopped(&mut stop) => {
                    connection.as_mut().graceful_shutdown();
                    let _ = connection.await;
                }
            }
            drop(place);
        });
    }
    // Whoever comes now had better go elsewhere than wait for what is not accepted any more.
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, ended).await.is_err() {
        tracing::warn!("some connections did not end in time and are cut");
    }
}

/// Returns when `stop` has become true.
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that whoever could stop us is gone: then it is time, too.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn whole<H, F>(request: Request<Body>, peer: SocketAddr, handle: &H, room: &Arc<Semaphore>) -> WholeResponse
where
    H: Fn(WholeRequest, SocketAddr) -> F,
    F: Future<Output = WholeResponse>,
{
    let (head, mut body) = request.into_parts();
    let refusal = match tokio::time::timeout(PATIENCE * 3, read(&mut body, room)).await {
        Ok(Ok((body, _held))) => return handle(Request::from_parts(head, body), peer).await,
        Ok(Err(Unread::TooLarge)) => answer(&Answer::body_too_large()),
        Ok(Err(Unread::NoRoom)) => answer(&Answer::overloaded()),
        Ok(Err(Unread::BrokeOff)) => return plain(400, "the body broke off\n"),
        Err(_) => return plain(408, "the body took too long\n"),
    };
    // Whoever is still sending would not see the answer if the connection were closed on what it sends.
    tokio::spawn(tokio::time::timeout(PATIENCE, async move {
        let mut left = MAX_BODY;
        while let Some(Ok(frame)) = body.frame().await {
            let Some(rest) = left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) else { break };
            left = rest;
        }
    }));
    refusal
}

/// Why a body was not read.
enum Unread {
    TooLarge,
    NoRoom,
    BrokeOff,
}

/// Reads a body into the room that is left. It is taken for what has come in, not for what is announced: an
/// announcement costs its sender nothing.
async fn read(body: &mut Body, room: &Arc<Semaphore>) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Unread> {
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(Unread::TooLarge);
    }
    let mut whole = BytesMut::new();
    let mut held: Option<OwnedSemaphorePermit> = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Unread::BrokeOff)?;
        let Some(data) = frame.data_ref() else { continue };
        if whole.len() + data.len() > MAX_BODY {
            return Err(Unread::TooLarge);
        }
        let size = u32::try_from(data.len()).map_err(|_| Unread::TooLarge)?;
        let more = room.clone().try_acquire_many_owned(size).map_err(|_| Unread::NoRoom)?;
        match &mut held {
            Some(held) => held.merge(more),
            None => held = Some(more),
        }
        whole.extend_from_slice(data);
    }
    Ok((whole.freeze(), held))
}

/// The intake's answer as a response.
pub fn answer(answer: &Answer) -> WholeResponse {
    let mut response = Response::new(Full::from(answer.body.to_string()));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or_default();
    *response.headers_mut() = answer.header_map();
    response
}

/// A short answer in plain text.
pub fn plain(status: u16, text: &'static str) -> WholeResponse {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
    response
}

/// Listens on `address`; the error says what to do.
///
/// # Errors
/// Where the address is taken or not ours.
pub async fn listen(address: &str) -> io::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        io::Error::new(error.kind(), format!("cannot listen on {address}: {error}; choose another with --listen"))
    })
}
