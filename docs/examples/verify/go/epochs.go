package main

import (
	"log"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Epochs follows the issuer's epoch feed: whose older tokens are dead.
type Epochs struct {
	url, authorization, cursor string
	lock                       sync.RWMutex
	raised                     map[string]entry
}

type entry struct {
	User  string    `json:"user_id"`
	Epoch int64     `json:"epoch"`
	At    time.Time `json:"at"`
}

// Follow polls in the interval.
func Follow(issuer, apiKey string, interval time.Duration) *Epochs {
	e := &Epochs{url: strings.TrimRight(issuer, "/") + "/v1/epochs", authorization: "Bearer " + apiKey, raised: map[string]entry{}}
	e.round()
	go func() {
		for range time.Tick(interval) {
			e.round()
		}
	}()
	return e
}

func (e *Epochs) round() {
	if err := e.poll(); err != nil {
		// while the feed is away, tokens live as long as without it: to their exp
		if err == statusError(400) {
			e.cursor = "" // one that is not known any more: from the beginning
		}
		log.Print("epochs: ", err)
	}
}

func (e *Epochs) poll() error {
	for more := true; more; {
		at := e.url
		if e.cursor != "" {
			at += "?since=" + url.QueryEscape(e.cursor)
		}
		var page struct {
			Epochs []entry
			Cursor string
			More   bool
		}
		if err := get(at, e.authorization, &page); err != nil {
			return err
		}
		e.take(page.Epochs)
		more = page.More && page.Cursor != e.cursor // a page that was cut
		e.cursor = page.Cursor
	}
	return nil
}

// take remembers what rose. Entries come out of order, and more than once; what is older than any token can be is forgotten.
func (e *Epochs) take(epochs []entry) {
	e.lock.Lock()
	defer e.lock.Unlock()
	for user, held := range e.raised {
		if time.Since(held.At) > 24*time.Hour+2*time.Minute {
			delete(e.raised, user)
		}
	}
	for _, raised := range epochs {
		if raised.Epoch > e.raised[raised.User].Epoch {
			e.raised[raised.User] = raised
		}
	}
}

func (e *Epochs) isDead(claims *Claims) bool {
	if claims.SessionID == "" { // a client's own token: its sub is no user's
		return false
	}
	e.lock.RLock()
	defer e.lock.RUnlock()
	for _, prefix := range []string{"", "anon@", "anon|"} {
		if claims.Epoch < e.raised[strings.TrimPrefix(claims.Subject, prefix)].Epoch {
			return true
		}
	}
	return false
}
