package main

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"sync"
	"time"
)

const (
	fresh    = 5 * time.Minute // older keys are fetched again
	stale    = time.Hour       // and used so long while the issuer is away
	interval = 5 * time.Second // at most one fetch in this time
)

var (
	errAway = errors.New("the keys cannot be had")
	client  = &http.Client{Timeout: 5 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
)

func get(url, authorization string, into any) error {
	request, err := http.NewRequest("GET", url, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Accept", "application/json")
	if authorization != "" {
		request.Header.Set("Authorization", authorization)
	}
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return statusError(answer.StatusCode)
	}
	return json.NewDecoder(io.LimitReader(answer.Body, 64<<20)).Decode(into)
}

type statusError int

func (s statusError) Error() string { return fmt.Sprint("the issuer answers ", int(s)) }

// key is a public one, which fixes its algorithm.
type key struct {
	algorithm  string
	thumbprint string // RFC 7638
	public     any
}

// readKey takes no private key, no symmetric one and no other algorithm.
func readKey(text []byte) (*key, error) {
	var jwk struct{ Kty, Crv, Alg, X, Y, N, E, D, K string }
	if err := json.Unmarshal(text, &jwk); err != nil || jwk.D != "" || jwk.K != "" {
		return nil, errors.New("the key cannot be used")
	}
	read := func(text string) []byte {
		bytes, _ := base64.RawURLEncoding.Strict().DecodeString(text)
		return bytes
	}
	number := func(text string) *big.Int { return new(big.Int).SetBytes(read(text)) }
	k := &key{}
	var members string
	switch jwk.Kty + jwk.Crv {
	case "ECP-256":
		public := &ecdsa.PublicKey{Curve: elliptic.P256(), X: number(jwk.X), Y: number(jwk.Y)}
		if len(read(jwk.X)) != 32 || len(read(jwk.Y)) != 32 || !public.IsOnCurve(public.X, public.Y) {
			return nil, errors.New("the key is not on its curve")
		}
		k.algorithm, k.public = "ES256", public
		members = fmt.Sprintf(`{"crv":"P-256","kty":"EC","x":"%s","y":"%s"}`, jwk.X, jwk.Y)
	case "OKPEd25519":
		if len(read(jwk.X)) != ed25519.PublicKeySize {
			return nil, errors.New("the key has another length")
		}
		k.algorithm, k.public = "EdDSA", ed25519.PublicKey(read(jwk.X))
		members = fmt.Sprintf(`{"crv":"Ed25519","kty":"OKP","x":"%s"}`, jwk.X)
	case "RSA":
		public := &rsa.PublicKey{N: number(jwk.N), E: int(number(jwk.E).Int64())}
		if bits := public.N.BitLen(); bits < 2048 || bits > 4096 || len(read(jwk.E)) > 4 || public.E < 3 {
			return nil, errors.New("the key has another length")
		}
		k.algorithm, k.public = "RS256", public
		members = fmt.Sprintf(`{"e":"%s","kty":"RSA","n":"%s"}`, jwk.E, jwk.N)
	default:
		return nil, errors.New("the key is of another kind")
	}
	if jwk.Alg != "" && jwk.Alg != k.algorithm {
		return nil, errors.New("the key is for another algorithm")
	}
	hash := sha256.Sum256([]byte(members))
	k.thumbprint = base64.RawURLEncoding.EncodeToString(hash[:])
	return k, nil
}

// keys of the issuer by their name.
type keys struct {
	url   string
	lock  sync.Mutex
	held  map[string]*key
	since time.Time
	asked time.Time
}

func (k *keys) find(kid, algorithm string) (any, error) {
	k.lock.Lock()
	defer k.lock.Unlock()
	found := k.held[kid]
	failed := false
	if (found == nil || time.Since(k.since) > fresh) && time.Since(k.asked) > interval {
		failed = k.fetch() != nil
		found = k.held[kid]
	}
	switch {
	case time.Since(k.since) > stale, found == nil && failed:
		return nil, errAway
	case found == nil:
		return nil, errors.New("its key is not known")
	case found.algorithm != algorithm:
		return nil, errors.New("its algorithm is not its key's")
	}
	return found.public, nil
}

func (k *keys) fetch() error {
	k.asked = time.Now()
	var set struct{ Keys []json.RawMessage }
	if err := get(k.url, "", &set); err != nil {
		return err
	}
	held := map[string]*key{}
	for _, text := range set.Keys {
		var name struct{ Kid, Use string }
		key, err := readKey(text)
		if err == nil && json.Unmarshal(text, &name) == nil && name.Kid != "" && (name.Use == "" || name.Use == "sig") {
			held[name.Kid] = key
		}
	}
	if len(held) == 0 {
		return errors.New("there is no usable key")
	}
	k.held, k.since = held, time.Now()
	return nil
}
