//! One kept TLS 1.3 connection with HTTP/1.1 on it, one request at a time: what both servers of a
//! pair are asked over.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::error::BenchError;

/// Where connections lead to.
#[derive(Clone)]
pub(crate) struct Target {
    authority: Authority,
    /// The path of the address; a site's is `/`.
    pub(crate) path: PathAndQuery,
    name: ServerName<'static>,
    tls: TlsConnector,
}

/// What came back, with the status that was expected.
pub(crate) struct Answer {
    /// The headers.
    pub(crate) headers: HeaderMap,
    /// The whole body.
    pub(crate) body: Bytes,
}

/// A connection that stands.
pub(crate) struct Connection {
    address: String,
    sender: SendRequest<Full<Bytes>>,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.authority.fmt(f)
    }
}

impl Target {
    /// The server at `url`, which names its port.
    pub(crate) fn new(url: &str, mut tls: ClientConfig) -> Result<Self, BenchError> {
        let refused = || BenchError::Url(url.to_owned());
        let parts = url.parse::<Uri>().map_err(|_| refused())?.into_parts();
        let authority = parts.authority.filter(|at| at.port().is_some()).ok_or_else(refused)?;
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host).map_err(|_| refused())?;
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let path = parts.path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
        Ok(Self { authority, path, name, tls: TlsConnector::from(Arc::new(tls)) })
    }

    /// Connects, with a full handshake.
    pub(crate) async fn connect(&self) -> Result<Connection, BenchError> {
        let address = self.authority.to_string();
        let failed = |source| BenchError::Connect { address: address.clone(), source };
        let socket = TcpStream::connect(self.authority.as_str()).await.map_err(failed)?;
        socket.set_nodelay(true).map_err(failed)?;
        let stream = self.tls.connect(self.name.clone(), socket).await.map_err(failed)?;
        let shaken = handshake(TokioIo::new(stream)).await;
        let (sender, connection) =
            shaken.map_err(|source| BenchError::Ask { address: address.clone(), source })?;
        // An error on it reaches whoever asks next.
        tokio::spawn(async move { connection.await.ok() });
        Ok(Connection { address, sender })
    }

    /// `count` connections.
    pub(crate) async fn connect_many(&self, count: usize) -> Result<Vec<Connection>, BenchError> {
        let mut connections = Vec::with_capacity(count);
        for _ in 0..count {
            connections.push(self.connect().await?);
        }
        Ok(connections)
    }

    /// A request for `path`, with the host's name as HTTP/1.1 wants it.
    pub(crate) fn request(&self, path: &PathAndQuery) -> http::request::Builder {
        let uri = Uri::from(path.clone());
        Request::builder().uri(uri).header(http::header::HOST, self.authority.as_str())
    }
}

impl Connection {
    /// Sends a request and reads the whole answer, which must have the status `expected`.
    pub(crate) async fn ask(
        &mut self,
        request: Request<Full<Bytes>>,
        expected: StatusCode,
    ) -> Result<Answer, BenchError> {
        let failed = |source| BenchError::Ask { address: self.address.clone(), source };
        self.sender.ready().await.map_err(failed)?;
        let (head, body) = self.sender.send_request(request).await.map_err(failed)?.into_parts();
        let body = body.collect().await.map_err(failed)?.to_bytes();
        if head.status != expected {
            let body = String::from_utf8_lossy(&body).into_owned();
            let address = self.address.clone();
            return Err(BenchError::Answer { address, status: head.status, expected, body });
        }
        Ok(Answer { headers: head.headers, body })
    }
}
