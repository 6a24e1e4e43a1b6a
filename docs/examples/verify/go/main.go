// A small API: GET /cart for guests and members with read:cart, GET /orders for members.
package main

import (
	"encoding/json"
	"errors"
	"log"
	"net/http"
	"os"
	"time"
)

func main() {
	issuer, listen := os.Getenv("ISSUER"), os.Getenv("LISTEN")
	if listen == "" {
		listen = "127.0.0.1:8090"
	}
	address := os.Getenv("ADDRESS")
	if address == "" {
		address = "http://" + listen
	}
	var epochs *Epochs
	if key := os.Getenv("EPOCHS_KEY"); key != "" {
		epochs = Follow(issuer, key, 2*time.Second)
	}
	verifier, err := NewVerifier(issuer, os.Getenv("AUDIENCE"), address, epochs)
	if err != nil {
		log.Fatal(err)
	}
	serve := func(require Require) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			claims, err := verifier.Check(r, require)
			var refused *Refused
			if errors.As(err, &refused) {
				if refused.Challenge != "" {
					w.Header().Set("WWW-Authenticate", refused.Challenge)
				}
				w.WriteHeader(refused.Status)
				_ = json.NewEncoder(w).Encode(map[string]string{"detail": refused.Message})
				return
			}
			_ = json.NewEncoder(w).Encode(map[string]any{"subject": claims.Subject, "guest": claims.IsAnonymous})
		}
	}
	http.HandleFunc("/cart", serve(Require{Holder: "user", Scopes: []string{"read:cart"}}))
	http.HandleFunc("/orders", serve(Require{Holder: "member", Scopes: []string{"read:cart"}}))
	log.Fatal(http.ListenAndServe(listen, nil))
}
