//! Addresses of this node's wasm pods: handed out in turn, so that one that was given back rests before it is used
//! again.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// A pool over one range. The network's own, its first (a gateway's by custom) and its broadcast address are not
/// handed out.
#[derive(Debug)]
pub struct AddressPool {
    range: Ipv4Net,
    used: HashSet<u32>,
    next: u32,
}

impl AddressPool {
    pub fn new(range: Ipv4Net) -> AddressPool {
        AddressPool { range, used: HashSet::new(), next: 0 }
    }

    /// An address that has rested longest of those that are free; `None` when all are taken.
    pub fn allocate(&mut self) -> Option<Ipv4Addr> {
        let size = self.size();
        for _ in 0..size {
            let offset = self.next;
            self.next = (self.next + 1) % size;
            if self.used.insert(offset) {
                return Some(self.address(offset));
            }
        }
        None
    }

    /// Keeps an address that a pod has already (its status says so). False when it is taken or out of range.
    pub fn claim(&mut self, address: Ipv4Addr) -> bool {
        let Some(offset) = self.offset(address) else { return false };
        if !self.used.insert(offset) {
            return false;
        }
        self.next = self.next.max(offset + 1) % self.size().max(1);
        true
    }

    /// Gives an address back.
    pub fn release(&mut self, address: Ipv4Addr) {
        if let Some(offset) = self.offset(address) {
            self.used.remove(&offset);
        }
    }

    fn size(&self) -> u32 {
        let host_bits = 32 - u32::from(self.range.prefix_len());
        let all = 1_u64 << host_bits;
        u32::try_from(all.saturating_sub(3)).unwrap_or(u32::MAX)
    }

    fn address(&self, offset: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.range.network()).wrapping_add(2).wrapping_add(offset))
    }

    fn offset(&self, address: Ipv4Addr) -> Option<u32> {
        let offset = u32::from(address).checked_sub(u32::from(self.range.network()))?.checked_sub(2)?;
        (offset < self.size()).then_some(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> AddressPool {
        AddressPool::new("10.64.0.0/29".parse().unwrap())
    }

    #[test]
    fn hands_out_in_turn_and_lets_addresses_rest() {
        let mut pool = pool();
        let first = pool.allocate().unwrap();
        assert_eq!(first, Ipv4Addr::new(10, 64, 0, 2));
        pool.release(first);
        let rest: Vec<_> = (0..5).map(|_| pool.allocate().unwrap().octets()[3]).collect();
        assert_eq!(rest, [3, 4, 5, 6, 2]);
        assert_eq!(pool.allocate(), None);
    }

    #[test]
    fn keeps_what_pods_have() {
        let mut pool = pool();
        assert!(pool.claim(Ipv4Addr::new(10, 64, 0, 4)));
        assert!(!pool.claim(Ipv4Addr::new(10, 64, 0, 4)));
        assert!(!pool.claim(Ipv4Addr::new(10, 64, 0, 0)));
        assert!(!pool.claim(Ipv4Addr::new(10, 64, 1, 1)));
        let rest: Vec<_> = (0..4).map(|_| pool.allocate().unwrap().octets()[3]).collect();
        assert_eq!(rest, [5, 6, 2, 3]);
    }
}
