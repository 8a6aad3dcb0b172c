use std::net::{Ipv4Addr, TcpListener};

use crate::Error;

/// A loopback address and a port that nobody listens on just now: below the range that the kernel hands out itself.
/// Random, so that sandboxes of different users of this machine do not meet.
pub(crate) fn free(name: &str) -> Result<(Ipv4Addr, u16), Error> {
    for _ in 0..100 {
        let mut random = [0_u8; 4];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
            .map_err(Error::sys("get random numbers"))?;
        let [third, fourth, high, low] = random;
        let address = Ipv4Addr::new(127, 77, third, fourth.clamp(1, 254));
        let port = 20_000 + u16::from_be_bytes([high, low]) % 10_000;
        if TcpListener::bind((address, port)).is_ok() {
            return Ok((address, port));
        }
    }
    Err(Error::NoPort(name.to_owned()))
}
