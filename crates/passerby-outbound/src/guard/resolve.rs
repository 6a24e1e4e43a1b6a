//! The resolver of guarded calls: it gives the connection only addresses that may be called.

use std::net::SocketAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::net::lookup_host;

use super::{Blocked, Guard};

/// Resolves by the system, and drops what the guard does not permit.
///
/// The connection is made to what comes out of here and to nothing else, so there is no second look-up that could give
/// another answer.
#[derive(Debug)]
pub(crate) struct GuardedResolver(pub(crate) Guard);

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.0.clone();
        Box::pin(async move {
            let found = lookup_host((name.as_str(), 0)).await?;
            Ok(Box::new(permitted(&guard, found)?.into_iter()) as Addrs)
        })
    }
}

fn permitted(guard: &Guard, found: impl Iterator<Item = SocketAddr>) -> Result<Vec<SocketAddr>, Blocked> {
    let kept: Vec<_> = found.filter(|address| guard.permits(address.ip())).collect();
    if kept.is_empty() { Err(Blocked::Host) } else { Ok(kept) }
}

#[cfg(test)]
mod tests {
    use super::{super::Allowance, *};

    #[test]
    fn of_mixed_answers_the_public_ones_remain() {
        let guard = Guard::new(Allowance::default());
        let all = ["127.0.0.1:0", "8.8.8.8:0", "[::1]:0", "[::ffff:10.0.0.1]:0", "[2606:4700::1]:0"]
            .map(|a| a.parse().unwrap());
        let kept = permitted(&guard, all.into_iter()).unwrap();
        assert_eq!(kept, ["8.8.8.8:0", "[2606:4700::1]:0"].map(|a| a.parse::<SocketAddr>().unwrap()));
        assert_eq!(permitted(&guard, all[..1].iter().copied()), Err(Blocked::Host));
        assert_eq!(permitted(&guard, std::iter::empty()), Err(Blocked::Host));
    }

    #[tokio::test]
    async fn a_name_of_this_machine_resolves_to_nothing() {
        let resolver = GuardedResolver(Guard::new(Allowance::default()));
        let fault = resolver.resolve("localhost".parse().unwrap()).await.err().unwrap();
        assert_eq!(fault.downcast_ref(), Some(&Blocked::Host));
        let loopback = vec!["127.0.0.0/8".parse().unwrap()];
        let resolver = GuardedResolver(Guard::new(Allowance { networks: loopback, plain_http: Vec::new() }));
        let found: Vec<_> = resolver.resolve("localhost".parse().unwrap()).await.unwrap().collect();
        assert!(!found.is_empty() && found.iter().all(|a| a.ip().is_ipv4()), "{found:?}");
    }
}
