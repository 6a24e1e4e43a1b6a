//! What is in the carts: in memory, bounded.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
};

use serde::Serialize;

/// So many carts are kept; a new one then takes the place of the one that was untouched longest.
const CARTS: usize = 10_000;
/// So many kinds of things fit into one.
const KINDS: usize = 50;
/// So many of a kind.
const MOST: u32 = 99;

/// Carts by the subject of whose they are.
#[derive(Default)]
pub(crate) struct Carts(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    carts: HashMap<Box<str>, Cart>,
    /// Subjects by their last touch.
    touched: BTreeMap<u64, Box<str>>,
    touches: u64,
}

#[derive(Default)]
struct Cart {
    touch: u64,
    items: Vec<Item>,
}

/// So many of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Item {
    pub(crate) sku: Box<str>,
    pub(crate) quantity: u32,
}

/// It does not fit in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// Too many kinds.
    Kinds,
    /// Too many of the kind.
    Quantity,
}

impl Carts {
    /// What is in somebody's cart, in the order in which it was put there.
    pub(crate) fn of(&self, subject: &str) -> Vec<Item> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.carts.get(subject).map(|cart| cart.items.clone()).unwrap_or_default()
    }

    /// Puts something into somebody's cart, all of it or nothing, and gives the whole cart.
    pub(crate) fn add(&self, subject: &str, sku: &str, quantity: u32) -> Result<Vec<Item>, Full> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Kept { carts, touched, touches } = &mut *kept;
        let held = carts.get(subject).map_or(&[][..], |cart| &cart.items);
        let there = held.iter().find(|item| *item.sku == *sku).map_or(0, |item| item.quantity);
        if there == 0 && held.len() == KINDS {
            return Err(Full::Kinds);
        }
        if there.saturating_add(quantity) > MOST {
            return Err(Full::Quantity);
        }
        if carts.len() == CARTS
            && !carts.contains_key(subject)
            && let Some((_, oldest)) = touched.pop_first()
        {
            carts.remove(&oldest);
        }
        let cart = carts.entry(subject.into()).or_default();
        *touches += 1;
        touched.remove(&cart.touch);
        touched.insert(*touches, subject.into());
        cart.touch = *touches;
        match cart.items.iter_mut().find(|item| *item.sku == *sku) {
            Some(item) => item.quantity += quantity,
            None => cart.items.push(Item { sku: sku.into(), quantity }),
        }
        Ok(cart.items.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_up_within_bounds() {
        let carts = Carts::default();
        assert_eq!(carts.of("ada"), []);
        carts.add("ada", "tea", 98).unwrap();
        assert_eq!(carts.add("ada", "tea", 1).unwrap(), [Item { sku: "tea".into(), quantity: 99 }]);
        for more in [1, u32::MAX] {
            assert_eq!(carts.add("ada", "tea", more), Err(Full::Quantity));
        }
        for i in 1..KINDS {
            carts.add("ada", &i.to_string(), 1).unwrap();
        }
        assert_eq!(carts.add("ada", "more", 1), Err(Full::Kinds));
        assert_eq!(carts.of("ada").len(), KINDS);
        assert_eq!(carts.of("bob"), []);
    }

    #[test]
    fn the_cart_untouched_longest_makes_room() {
        let carts = Carts::default();
        for i in 0..CARTS {
            carts.add(&i.to_string(), "tea", 1).unwrap();
        }
        carts.add("0", "tea", 1).unwrap();
        carts.add("new", "tea", 1).unwrap();
        assert_eq!(carts.of("1"), [], "made room");
        assert_eq!(carts.of("0").len(), 1, "was touched");
        let kept = carts.0.lock().unwrap();
        assert_eq!((kept.carts.len(), kept.touched.len()), (CARTS, CARTS));
    }
}
