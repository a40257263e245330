//! Relays between real sockets on loopback: the test plays the client and the backend at the far ends.

use std::io::ErrorKind;
use std::sync::atomic::Ordering;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::model::boottime_ms;

/// Longer than anything here takes, short enough that a hang is noticed.
const LONG: Duration = Duration::from_secs(60);
/// For limits that are to be reached.
const SHORT: Duration = Duration::from_millis(30);

fn last_words(ending: Ending) -> &'static [u8] {
    if ending == Ending::Kicked { b"* BYE moved\r\n" } else { b"" }
}

/// A relay under test. Limits are long unless a test makes them short.
struct Rig {
    pool: Arc<BufferPool>,
    idle_timeout: Duration,
    close_timeout: Duration,
    kick_deadline: Duration,
    isolation: Arc<AtomicU64>,
    leftover: Vec<u8>,
}

impl Default for Rig {
    fn default() -> Self {
        Self {
            pool: BufferPool::new(BufferPool::SIZE, 4),
            idle_timeout: LONG,
            close_timeout: LONG,
            kick_deadline: LONG,
            isolation: Arc::default(),
            leftover: Vec::new(),
        }
    }
}

/// A relay that runs, and the far ends of its two connections.
struct Running<C = TcpStream, B = TcpStream> {
    client: C,
    backend: B,
    stop: StopHandle,
    /// Answers when the session counts as closed.
    closed: oneshot::Receiver<Outcome>,
    task: JoinHandle<Outcome>,
}

impl Rig {
    fn settings(&self) -> RelaySettings {
        RelaySettings {
            pool: Arc::clone(&self.pool),
            idle_timeout: self.idle_timeout,
            close_timeout: self.close_timeout,
            kick_deadline: self.kick_deadline,
        }
    }

    async fn start(self) -> Running {
        let (client, near_client) = tcp_pair().await;
        let (backend, near_backend) = tcp_pair().await;
        self.between(client, backend, Stream::Plain(near_client), Stream::Plain(near_backend))
    }

    fn between<C, B>(self, client: C, backend: B, near_client: Stream, near_backend: Stream) -> Running<C, B> {
        let (stop, signal) = stop_pair();
        let (tell, closed) = oneshot::channel();
        let settings = Arc::new(self.settings());
        let session =
            RelaySession { settings, stop: signal, isolation: self.isolation, leftover: self.leftover, last_words };
        let future = relay(near_client, near_backend, session, move |outcome| {
            let _ = tell.send(outcome);
        });
        let task = tokio::spawn(within(future));
        Running { client, backend, stop, closed, task }
    }
}

async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(LONG, future).await.expect("this takes too long")
}

/// Both ends of a connection.
async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (dialed, accepted) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (dialed.unwrap(), accepted.unwrap().0)
}

async fn expect(stream: &mut (impl AsyncReadExt + Unpin), wanted: &[u8]) {
    let mut got = vec![0; wanted.len()];
    within(stream.read_exact(&mut got)).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(wanted));
}

/// What still comes until the peer ends in good order.
async fn rest(stream: &mut (impl AsyncReadExt + Unpin)) -> Vec<u8> {
    let mut got = Vec::new();
    within(stream.read_to_end(&mut got)).await.unwrap();
    got
}

async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not come true");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// An exchange that proves that the relay is at work.
async fn ping(running: &mut Running) {
    running.client.write_all(b"a NOOP\r\n").await.unwrap();
    expect(&mut running.backend, b"a NOOP\r\n").await;
    running.backend.write_all(b"a OK\r\n").await.unwrap();
    expect(&mut running.client, b"a OK\r\n").await;
}

/// Drops a far end without ado.
fn reset(stream: TcpStream) {
    Stream::Plain(stream).reset_on_drop();
}

#[tokio::test]
async fn what_the_client_sent_behind_its_login_reaches_the_backend_first() {
    let mut running = Rig { leftover: b"a SELECT INBOX\r\n".to_vec(), ..Rig::default() }.start().await;
    running.client.write_all(b"b NOOP\r\n").await.unwrap();
    expect(&mut running.backend, b"a SELECT INBOX\r\nb NOOP\r\n").await;
    drop(running.backend);
    assert_eq!(running.task.await.unwrap().in_bytes, 24, "bytes before the relay count, too");
}

#[tokio::test]
async fn bytes_are_counted_in_each_direction() {
    let mut running = Rig::default().start().await;
    ping(&mut running).await;
    drop(running.client);
    assert!(rest(&mut running.backend).await.is_empty());
    drop(running.backend);
    let outcome = running.task.await.unwrap();
    assert_eq!(outcome, Outcome { ending: Ending::ClientClosed, in_bytes: 8, out_bytes: 6 });
}

#[tokio::test]
async fn a_client_that_closes_only_its_sending_side_gets_the_whole_answer() {
    let mut running = Rig::default().start().await;
    running.client.write_all(b"a FETCH 1 BODY[]\r\n").await.unwrap();
    running.client.shutdown().await.unwrap();
    assert_eq!(rest(&mut running.backend).await, b"a FETCH 1 BODY[]\r\n", "the half-close is passed on");
    let answer = vec![b'x'; 3 << 20];
    let send = answer.clone();
    let mut backend = running.backend;
    tokio::spawn(async move { backend.write_all(&send).await });
    assert_eq!(rest(&mut running.client).await, answer);
    assert_eq!(running.task.await.unwrap().ending, Ending::ClientClosed);
}

#[tokio::test]
async fn a_session_counts_as_closed_only_when_the_backend_has_ended_it() {
    let mut running = Rig::default().start().await;
    drop(running.client);
    assert!(rest(&mut running.backend).await.is_empty());
    // The backend knows that the client has gone, and is still at work.
    running.backend.write_all(b"* OK still writing the index\r\n").await.unwrap();
    assert!(running.closed.try_recv().is_err());
    drop(running.backend);
    assert_eq!(within(running.closed).await.unwrap().ending, Ending::ClientClosed);
}

#[tokio::test]
async fn a_lost_client_counts_as_closed_only_when_the_backend_has_ended_it() {
    let mut running = Rig::default().start().await;
    ping(&mut running).await;
    reset(running.client);
    assert!(rest(&mut running.backend).await.is_empty());
    running.backend.write_all(b"* OK still writing the index\r\n").await.unwrap();
    assert!(running.closed.try_recv().is_err());
    drop(running.backend);
    assert_eq!(within(running.closed).await.unwrap().ending, Ending::ClientLost);
}

#[tokio::test]
async fn a_backend_that_does_not_end_within_the_close_timeout_is_reset() {
    let mut running = Rig { close_timeout: Duration::from_millis(30), ..Rig::default() }.start().await;
    drop(running.client);
    assert!(rest(&mut running.backend).await.is_empty());
    assert_eq!(within(running.closed).await.unwrap().ending, Ending::ClientClosed);
    let mut backend = running.backend;
    within(async { while backend.write_all(b"* OK hello?\r\n").await.is_ok() {} }).await;
    assert_eq!(running.task.await.unwrap().ending, Ending::ClientClosed);
}

#[tokio::test]
async fn a_backend_that_ignores_a_kick_is_reset_after_the_close_timeout() {
    let mut running = Rig { close_timeout: Duration::from_millis(30), ..Rig::default() }.start().await;
    ping(&mut running).await;
    running.stop.stop(Ending::Kicked);
    assert!(rest(&mut running.backend).await.is_empty(), "it is asked to end in good order first");
    assert_eq!(within(running.closed).await.unwrap().ending, Ending::Kicked);
    within(async { while running.backend.write_all(b"* OK hello?\r\n").await.is_ok() {} }).await;
}

#[tokio::test]
async fn a_session_is_closed_at_once_when_the_backend_ends_it_and_the_client_hears_all() {
    let mut running = Rig::default().start().await;
    ping(&mut running).await;
    running.backend.write_all(b"* BYE full\r\n").await.unwrap();
    drop(running.backend);
    assert_eq!(within(running.closed).await.unwrap().ending, Ending::BackendClosed);
    // The client has not read yet, and speaks into the closed session: that must not cost it the last words.
    running.client.write_all(b"b NOOP\r\n").await.unwrap();
    assert_eq!(rest(&mut running.client).await, b"* BYE full\r\n");
    assert!(!running.task.is_finished(), "closing first would answer the client's bytes with a reset");
    drop(running.client);
    let outcome = running.task.await.unwrap();
    assert_eq!(outcome, Outcome { ending: Ending::BackendClosed, in_bytes: 8, out_bytes: 18 });
}

#[tokio::test]
async fn a_client_that_never_closes_is_let_go_soon_after_its_backend() {
    let mut running = Rig::default().start().await;
    drop(running.backend);
    assert_eq!(running.task.await.unwrap().ending, Ending::BackendClosed);
    assert!(rest(&mut running.client).await.is_empty());
}

#[tokio::test]
async fn a_reset_backend_is_lost_and_the_client_is_closed() {
    let mut running = Rig::default().start().await;
    ping(&mut running).await;
    reset(running.backend);
    assert_eq!(within(running.closed).await.unwrap().ending, Ending::BackendLost);
    assert!(rest(&mut running.client).await.is_empty());
}

#[tokio::test]
async fn a_stopped_session_hears_last_words_between_two_lines() {
    let mut running = Rig::default().start().await;
    ping(&mut running).await;
    assert!(running.stop.stop(Ending::Kicked));
    assert!(!running.stop.stop(Ending::Shutdown), "the first reason counts");
    assert_eq!(rest(&mut running.client).await, b"* BYE moved\r\n");
    assert!(rest(&mut running.backend).await.is_empty());
    drop((running.client, running.backend));
    assert_eq!(running.task.await.unwrap(), Outcome { ending: Ending::Kicked, in_bytes: 8, out_bytes: 6 });
}

#[tokio::test]
async fn a_stopped_session_hears_nothing_in_the_middle_of_a_line() {
    let mut running = Rig { kick_deadline: SHORT, ..Rig::default() }.start().await;
    running.backend.write_all(b"* 1 FETCH (BODY[] {100}\r\nDear").await.unwrap();
    expect(&mut running.client, b"* 1 FETCH (BODY[] {100}\r\nDear").await;
    running.stop.stop(Ending::Kicked);
    assert!(rest(&mut running.client).await.is_empty());
}

#[tokio::test]
async fn a_stop_before_the_relay_begins_moves_no_byte() {
    let (client, near_client) = tcp_pair().await;
    let (mut backend, near_backend) = tcp_pair().await;
    let rig = Rig { leftover: b"a DELETE everything\r\n".to_vec(), ..Rig::default() };
    let running = rig.between((), (), Stream::Plain(near_client), Stream::Plain(near_backend));
    running.stop.stop(Ending::Shutdown); // the task has not been polled: this runtime has one thread
    assert!(rest(&mut backend).await.is_empty());
    drop((client, backend));
    assert_eq!(running.task.await.unwrap().in_bytes, 0);
}

#[tokio::test]
async fn silence_ends_a_session_and_speech_prolongs_it() {
    // Longer than this machine may stand still.
    let idle_timeout = Duration::from_secs(5);
    let mut running = Rig { idle_timeout, ..Rig::default() }.start().await;
    let begun = Instant::now();
    while begun.elapsed() < idle_timeout * 3 / 2 {
        ping(&mut running).await;
        tokio::time::sleep(idle_timeout / 20).await;
    }
    drop(running.backend);
    assert_eq!(running.task.await.unwrap().ending, Ending::BackendClosed, "it was never silent for long");

    let mut running = Rig { idle_timeout: Duration::from_millis(20), ..Rig::default() }.start().await;
    assert!(rest(&mut running.client).await.is_empty());
    assert!(rest(&mut running.backend).await.is_empty());
    drop((running.client, running.backend));
    assert_eq!(running.task.await.unwrap().ending, Ending::ClientIdle);
}

#[tokio::test]
async fn an_isolated_relay_moves_no_byte_and_resets_the_backend() {
    let rig = Rig::default();
    let isolation = Arc::clone(&rig.isolation);
    let mut running = rig.start().await;
    isolation.store(boottime_ms() + 3_600_000, Ordering::Relaxed);
    ping(&mut running).await;
    isolation.store(boottime_ms(), Ordering::Relaxed);
    running.client.write_all(b"a STORE 1 +FLAGS (\\Deleted)\r\n").await.unwrap();
    let mut got = Vec::new();
    let error = within(running.backend.read_to_end(&mut got)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert!(got.is_empty());
    assert_eq!(within(running.closed).await.unwrap().ending, Ending::Isolated);
}

#[tokio::test]
async fn an_idle_session_owns_no_buffer() {
    let rig = Rig::default();
    let pool = Arc::clone(&rig.pool);
    let mut running = rig.start().await;
    for _ in 0..100 {
        ping(&mut running).await;
    }
    eventually("that all buffers are back", || pool.lent() == 0).await;
    assert_eq!(pool.kept(), 1, "one buffer served both directions all the time");
}

#[tokio::test]
async fn a_pool_keeps_no_more_than_it_may() {
    let pool = BufferPool::new(64, 2);
    let loans: Vec<Loan> = (0..5).map(|_| pool.lend()).collect();
    assert_eq!((pool.lent(), pool.kept()), (5, 0));
    assert!(loans.iter().all(|loan| loan.len() == 64));
    drop(loans);
    assert_eq!((pool.lent(), pool.kept()), (0, 2));
}

#[tokio::test]
async fn a_slow_reader_holds_one_buffer_and_slows_the_writer() {
    let rig = Rig::default();
    let pool = Arc::clone(&rig.pool);
    let mut running = rig.start().await;
    let message: Vec<u8> = (0..32_u32 << 20).map(|i| (i >> 10) as u8).collect();
    let sent = Arc::new(AtomicU64::new(0));
    let writer = tokio::spawn({
        let (message, sent) = (message.clone(), Arc::clone(&sent));
        async move {
            for chunk in message.chunks(1 << 16) {
                running.backend.write_all(chunk).await.unwrap();
                sent.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            }
        }
    });
    eventually("that the relay must wait for the reader", || pool.lent() == 1).await;
    let mut got = vec![0; message.len()];
    within(running.client.read_exact(&mut got[..1])).await.unwrap();
    assert!(sent.load(Ordering::Relaxed) < message.len() as u64, "the writer must not be ahead of the reader for ever");
    within(running.client.read_exact(&mut got[1..])).await.unwrap();
    assert!(got == message);
    writer.await.unwrap();
    assert_eq!(within(running.closed).await.unwrap().out_bytes, message.len() as u64);
    assert_eq!(pool.lent(), 0);
}

#[tokio::test]
async fn a_stop_does_not_wait_for_ever_for_a_client_that_does_not_read() {
    let rig = Rig { kick_deadline: SHORT, close_timeout: SHORT, ..Rig::default() };
    let pool = Arc::clone(&rig.pool);
    let mut running = rig.start().await;
    let flood = tokio::spawn(async move { while running.backend.write_all(&[b'\n'; 1 << 16]).await.is_ok() {} });
    eventually("that the relay must wait for the reader", || pool.lent() == 1).await;
    running.stop.stop(Ending::Kicked);
    within(flood).await.unwrap_or_default();
    assert_eq!(running.task.await.unwrap().ending, Ending::Kicked);
    assert_eq!(pool.lent(), 0);
}

#[tokio::test]
async fn the_future_is_small() {
    let (client, near_client) = tcp_pair().await;
    let (backend, near_backend) = tcp_pair().await;
    let rig = Rig::default();
    let settings = Arc::new(rig.settings());
    let session =
        RelaySession { settings, stop: stop_pair().1, isolation: rig.isolation, leftover: Vec::new(), last_words };
    let future = relay(Stream::Plain(near_client), Stream::Plain(near_backend), session, |_| {});
    let size = size_of_val(&future);
    println!("a relay takes {size} bytes");
    assert!(size <= 320, "{size} bytes");
    drop((client, backend));
}

mod stopping;

mod tls {
    use std::sync::Arc;

    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, RootCertStore, ServerConfig};
    use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

    use super::*;

    /// Both ends of a TLS connection; the first is the one that dialed.
    async fn tls_pair() -> (TlsStream<TcpStream>, TlsStream<TcpStream>) {
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap())
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (dialed, accepted) = tcp_pair().await;
        let connector = TlsConnector::from(Arc::new(client));
        let acceptor = TlsAcceptor::from(Arc::new(server));
        let (dialed, accepted) = tokio::join!(
            connector.connect(ServerName::try_from("localhost").unwrap(), dialed),
            acceptor.accept(accepted)
        );
        (dialed.unwrap().into(), accepted.unwrap().into())
    }

    async fn start(rig: Rig) -> Running<TlsStream<TcpStream>, TlsStream<TcpStream>> {
        let (client, near_client) = tls_pair().await;
        let (near_backend, backend) = tls_pair().await;
        rig.between(client, backend, Stream::Tls(Box::new(near_client)), Stream::Tls(Box::new(near_backend)))
    }

    #[tokio::test]
    async fn bytes_pass_through_tls_on_both_sides_without_being_kept_back() {
        let mut running = start(Rig::default()).await;
        for _ in 0..20 {
            running.client.write_all(b"a NOOP\r\n").await.unwrap();
            running.client.flush().await.unwrap();
            expect(&mut running.backend, b"a NOOP\r\n").await;
            running.backend.write_all(b"a OK\r\n").await.unwrap();
            running.backend.flush().await.unwrap();
            expect(&mut running.client, b"a OK\r\n").await;
        }
        let message: Vec<u8> = (0..5_u32 << 20).map(|i| (i >> 8) as u8).collect();
        let send = message.clone();
        let mut backend = running.backend;
        tokio::spawn(async move {
            backend.write_all(&send).await.unwrap();
            backend.shutdown().await.unwrap();
        });
        assert!(rest(&mut running.client).await == message);
        assert_eq!(within(running.closed).await.unwrap().out_bytes, 120 + message.len() as u64);
    }

    #[tokio::test]
    async fn the_end_of_a_message_does_not_stay_in_the_tls_layer() {
        let (client, near_client) = tls_pair().await;
        let (near_backend, mut backend) = tls_pair().await;
        // Small enough that every record is sent in parts, the last one, too.
        socket2::SockRef::from(near_client.get_ref().0).set_send_buffer_size(4096).unwrap();
        socket2::SockRef::from(client.get_ref().0).set_recv_buffer_size(4096).unwrap();
        let message = vec![b'x'; 300_000];
        let (near_client, near_backend) = (Stream::Tls(Box::new(near_client)), Stream::Tls(Box::new(near_backend)));
        let rig = Rig::default();
        let pool = Arc::clone(&rig.pool);
        let mut running = rig.between(client, (), near_client, near_backend);
        let send = message.clone();
        let writer = tokio::spawn(async move {
            backend.write_all(&send).await.unwrap();
            backend.flush().await.unwrap();
            backend
        });
        eventually("that the relay must wait for the reader", || pool.lent() == 1).await;
        let mut got = vec![0; message.len()];
        within(running.client.read_exact(&mut got)).await.unwrap();
        assert!(got == message);
        assert!(running.closed.try_recv().is_err(), "nobody has closed: it was not the end that brought the rest");
        drop(writer.await.unwrap());
    }

    #[tokio::test]
    async fn a_tls_backend_that_said_goodbye_counts_as_closed_only_after_its_fin() {
        let mut running = start(Rig::default()).await;
        running.client.shutdown().await.unwrap();
        assert!(rest(&mut running.backend).await.is_empty());
        let TlsStream::Server(backend) = &mut running.backend else { unreachable!() };
        let (tcp, tls) = backend.get_mut();
        tls.send_close_notify();
        let mut goodbye = Vec::new();
        tls.write_tls(&mut goodbye).unwrap();
        tcp.write_all(&goodbye).await.unwrap();
        assert!(rest(&mut running.client).await.is_empty());
        assert!(running.closed.try_recv().is_err(), "the connection below TLS is still open");
        tcp.shutdown().await.unwrap();
        assert_eq!(within(running.closed).await.unwrap().ending, Ending::ClientClosed);
    }

    #[tokio::test]
    async fn a_tls_client_that_closes_without_saying_so_is_closed_like_any_other() {
        let mut running = start(Rig::default()).await;
        running.client.get_mut().0.shutdown().await.unwrap();
        assert!(rest(&mut running.backend).await.is_empty());
        drop(running.backend);
        assert_eq!(within(running.closed).await.unwrap().ending, Ending::ClientClosed);
    }

    #[tokio::test]
    async fn a_stopped_tls_session_finishes_its_command_and_hears_last_words() {
        let mut running = start(Rig::default()).await;
        running.client.write_all(b"a FETCH 1 BODY[]\r\n").await.unwrap();
        running.client.flush().await.unwrap();
        expect(&mut running.backend, b"a FETCH 1 BODY[]\r\n").await;
        running.backend.write_all(b"* 1 FETCH (BODY[] {10}\r\n12345").await.unwrap();
        running.backend.flush().await.unwrap();
        running.stop.stop(Ending::Kicked);
        expect(&mut running.client, b"* 1 FETCH (BODY[] {10}\r\n12345").await;
        running.backend.write_all(b"67890)\r\na OK\r\n").await.unwrap();
        running.backend.flush().await.unwrap();
        assert_eq!(rest(&mut running.client).await, b"67890)\r\na OK\r\n* BYE moved\r\n");
        assert!(rest(&mut running.backend).await.is_empty());
    }

    #[tokio::test]
    async fn a_stopped_tls_session_hears_last_words() {
        let mut running = start(Rig::default()).await;
        running.stop.stop(Ending::Kicked);
        assert_eq!(rest(&mut running.client).await, b"* BYE moved\r\n");
        assert!(rest(&mut running.backend).await.is_empty());
    }
}
