//! A mirror on this machine: a host's repository over HTTP, with what was asked of it.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::Sandbox;

pub(super) struct Mirror {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Mirror {
    /// Serves these files of `/repo`. What is asked for and has `held` in its name is never answered.
    pub(super) fn of(sandbox: &Sandbox, files: &[&str], held: &'static str) -> Mirror {
        let content = |name: &&str| (format!("/./{name}"), sandbox.read_bytes(&format!("/repo/{name}")));
        let files: HashMap<String, Vec<u8>> = files.iter().map(content).collect();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let theirs = Arc::clone(&asked);
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let (asked, files) = (Arc::clone(&theirs), files.clone());
                thread::spawn(move || answer(connection, &files, held, &asked));
            }
        });
        Mirror { port, asked }
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Waits until somebody asks for a file.
    #[track_caller]
    pub(super) fn is_asked_for(&self, name: &str) {
        let until = Instant::now() + Duration::from_secs(300);
        while self.times(name) == 0 {
            assert!(Instant::now() < until, "{name} was not asked for");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// How often a file was asked for.
    pub(super) fn times(&self, name: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|path| path.ends_with(name)).count()
    }
}

fn answer(connection: TcpStream, files: &HashMap<String, Vec<u8>>, held: &str, asked: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(connection.try_clone().unwrap()).lines().map_while(Result::ok);
    // One after the other over one connection, as apt does.
    while let Some(request) = lines.next() {
        let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
        if lines.by_ref().take_while(|line| !line.is_empty()).count() == 0 {
            return;
        }
        asked.lock().unwrap().push(path.clone());
        if !held.is_empty() && path.contains(held) {
            // Until the other side goes away.
            return lines.for_each(drop);
        }
        let (status, body) = match files.get(&path) {
            Some(body) => ("200 OK", body.as_slice()),
            None => ("404 Not Found", &b""[..]),
        };
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
        if (&connection).write_all(&[head.as_bytes(), body].concat()).is_err() {
            return;
        }
    }
}
