use tokio::sync::watch;

/// Ctrl-C (and SIGTERM): the first asks for an end at the next safe point, the second ends this program at once.
#[derive(Clone)]
pub(crate) struct Interrupts(watch::Receiver<bool>);

impl Interrupts {
    /// Begins to listen.
    pub(crate) fn listen(tell: impl Fn() + Send + 'static) -> std::io::Result<Interrupts> {
        let (sender, receiver) = watch::channel(false);
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::spawn(async move {
            for count in 0.. {
                tokio::select! {
                    pressed = tokio::signal::ctrl_c() => if pressed.is_err() { return },
                    _ = terminate.recv() => {}
                }
                if count > 0 {
                    std::process::exit(i32::from(crate::exit::Status::Operation.number()));
                }
                tell();
                // Nobody may be waiting for it.
                let _ = sender.send(true);
            }
        });
        Ok(Interrupts(receiver))
    }

    /// Waits for the first.
    pub(crate) async fn first(&self) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(|pressed| *pressed).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
