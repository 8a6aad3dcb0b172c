//! What a start costs beside the plain ssh: `cargo test -p toril-transport --test ssh -- --ignored measure --nocapture`

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use toril_transport::{Sudo, connect};

use crate::support::{Server, Setup, echo_image, options, unable};

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

#[tokio::test(flavor = "current_thread")]
#[ignore = "a measurement"]
async fn measure() {
    if unable().is_some() {
        return;
    }
    let server = Server::start(&Setup::default());
    let standing = connect(&server.host(), &options()).await.unwrap();
    standing.start_agent(&echo_image(), &Sudo::default()).await.unwrap().close().await.unwrap();
    let by_hand = |standing: Option<&std::path::Path>| {
        let mut ssh = Command::new("ssh");
        ssh.args(["-o", "BatchMode=yes", "-p", &server.ssh.port.unwrap().to_string(), "-i"])
            .arg(server.directory.path().join("id"))
            .arg("-o")
            .arg(format!("UserKnownHostsFile={}", server.directory.path().join("known_hosts").display()));
        if let Some(socket) = standing {
            ssh.arg("-S").arg(socket);
        }
        let begun = Instant::now();
        assert!(ssh.args(["root@127.0.7.1", "true"]).stdin(Stdio::null()).status().unwrap().success());
        begun.elapsed()
    };
    let (mut plain, mut cold, mut over, mut again) = (vec![], vec![], vec![], vec![]);
    for _ in 0..15 {
        plain.push(by_hand(None));
        let begun = Instant::now();
        let connection = connect(&server.host(), &options()).await.unwrap();
        let channel = connection.start_agent(&echo_image(), &Sudo::default()).await.unwrap();
        channel.close().await.unwrap();
        connection.close().await;
        cold.push(begun.elapsed());
        over.push(by_hand(standing.control_socket()));
        let begun = Instant::now();
        standing.start_agent(&echo_image(), &Sudo::default()).await.unwrap().close().await.unwrap();
        again.push(begun.elapsed());
    }
    println!("key exchange: {:?}", standing.facts().key_exchange);
    println!("cold: ssh host true {:?}, connect + agent + greeting + end {:?}", median(plain), median(cold));
    println!("standing: ssh -S host true {:?}, agent + greeting + end {:?}", median(over), median(again));
}
