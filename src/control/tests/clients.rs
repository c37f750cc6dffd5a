//! Clients as they really are: half-closed, slow, too many.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::*;

async fn connect(daemon: &Peerless) -> UnixStream {
    UnixStream::connect(&daemon.served.socket).await.unwrap()
}

async fn rest(mut stream: UnixStream) -> String {
    let mut text = String::new();
    timeout(Duration::from_secs(20), stream.read_to_string(&mut text)).await.expect("it ends").unwrap();
    text
}

/// As socat and `nc -N` do; the answer came to nobody, and the job was there.
#[tokio::test]
async fn a_client_that_has_shut_its_writing_side_gets_its_answer() {
    let daemon = start();
    let mut stream = connect(&daemon).await;
    stream.write_all(b"GET /v1/jobs HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    stream.shutdown().await.unwrap();
    let answer = rest(stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with('}'), "{answer}");
}

#[tokio::test]
async fn a_post_without_a_body_is_one_with_a_length_of_zero() {
    let daemon = start();
    for length in ["", "Content-Length: 0\r\n"] {
        let mut stream = connect(&daemon).await;
        let head = format!("POST /v1/reload HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{length}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let answer = rest(stream).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    }
}

/// Whoever never finishes a head does not keep its slot; meanwhile others are answered.
#[tokio::test]
async fn slow_heads_keep_nobody_out_and_are_closed() {
    let daemon = start();
    let mut slow = Vec::new();
    for _ in 0..64 {
        let mut stream = connect(&daemon).await;
        stream.write_all(b"GET /v1/status HTTP/1.1\r\nHost: x\r\n").await.unwrap();
        slow.push(stream);
    }
    let answer = timeout(Duration::from_secs(5), daemon.get("/v1/status")).await.expect("at once");
    assert_eq!(answer.0, 200);
    let last = slow.pop().unwrap();
    assert!(!rest(last).await.contains("200 OK"));
}
