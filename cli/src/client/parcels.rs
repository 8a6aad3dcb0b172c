use std::io::{self, Read};

use toril_archive::Parcel;
use toril_transport::BLOB_PIECE;

use super::{Client, ClientError, Told};
use crate::agent::{Attached, Attachment};
use crate::interrupt::Interrupts;

/// Files that are sent with an order. They are read again for every connection that has to be made.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Parcels<'p> {
    pub(crate) kernel: Option<&'p Parcel>,
    pub(crate) source: Option<&'p Parcel>,
}

impl<'p> Parcels<'p> {
    fn all(self) -> impl Iterator<Item = (Attached, &'p Parcel)> {
        let kernel = self.kernel.map(|parcel| (Attached::Kernel, parcel));
        kernel.into_iter().chain(self.source.map(|parcel| (Attached::Source, parcel)))
    }

    pub(super) fn announced(self) -> Vec<Attachment> {
        let announced = self.all().map(|(what, parcel)| Attachment {
            what,
            size: parcel.size,
            sha256: parcel.sha256.clone(),
        });
        announced.collect()
    }
}

impl Client {
    /// Sends what belongs to an order, piece by piece. Nothing has begun before all of it has arrived, so an interrupt ends
    /// it.
    pub(super) async fn send_parcels(
        &mut self,
        parcels: Parcels<'_>,
        interrupts: &Interrupts,
        tell: &mut dyn FnMut(Told),
    ) -> Result<(), ClientError> {
        let size = parcels.all().map(|(_, parcel)| parcel.size).sum();
        let mut sent = 0;
        for (_, parcel) in parcels.all() {
            let mut content = parcel.open().map_err(ClientError::Parcel)?;
            let mut left = parcel.size;
            let mut piece = vec![0; BLOB_PIECE];
            while left > 0 {
                let most = usize::try_from(left).unwrap_or(BLOB_PIECE).min(BLOB_PIECE);
                let piece = piece.get_mut(..most).unwrap_or_default();
                read_whole(&mut content, piece).map_err(ClientError::Parcel)?;
                tokio::select! {
                    biased;
                    () = interrupts.first() => return Err(ClientError::Interrupted),
                    result = self.send_blob(piece) => result?,
                }
                left -= piece.len() as u64;
                sent += piece.len() as u64;
                if size > BLOB_PIECE as u64 {
                    tell(Told::Sending { sent, size });
                }
            }
        }
        Ok(())
    }
}

fn read_whole(content: &mut impl Read, piece: &mut [u8]) -> io::Result<()> {
    content.read_exact(piece).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => io::Error::other("it became shorter while it was being sent"),
        _ => error,
    })
}
