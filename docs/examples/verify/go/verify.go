// Checks Passerby's access tokens in an API in Go, with golang-jwt.
//
//	verifier, err := NewVerifier("https://id.example.com", "https://api.example.com", "https://api.example.com", nil)
//	claims, err := verifier.Check(request, Require{Holder: "member", Scopes: []string{"write:cart"}}) // err: *Refused

package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v4"
)

var algorithms = []string{"ES256", "EdDSA", "RS256"}

const (
	leeway   = 10 * time.Second // by which the clocks of issuer and API may differ
	proofAge = time.Minute      // that a DPoP proof may be old, and the clock of a device ahead
	proofs   = 100_000          // remembered; more at a time are refused
	algs     = `algs="ES256 EdDSA RS256"`
)

// Refused says why a request is refused: the status, and the challenge for WWW-Authenticate where one is due.
type Refused struct {
	Status    int
	Challenge string
	Message   string
}

func (r *Refused) Error() string { return r.Message }

// Claims of a good token.
type Claims struct {
	jwt.RegisteredClaims
	ClientID    string `json:"client_id"`
	Scope       string `json:"scope"`
	SessionID   string `json:"sid"`
	IsAnonymous *bool  `json:"is_anonymous"`
	Epoch       int64  `json:"epoch"`
	Confirm     *struct {
		Thumbprint string `json:"jkt"`
	} `json:"cnf"`
}

// Valid is asked by the library; what it does by itself knows no leeway.
func (c *Claims) Valid() error {
	now := time.Now()
	switch {
	case c.ExpiresAt == nil || c.IssuedAt == nil || c.Subject == "" || c.ID == "" || c.ClientID == "":
		return errors.New("a claim is missing")
	case !now.Before(c.ExpiresAt.Add(leeway)):
		return errors.New("it has expired")
	case c.IssuedAt.After(now.Add(leeway)) || c.NotBefore != nil && c.NotBefore.After(now.Add(leeway)):
		return errors.New("it is not valid yet")
	}
	return nil
}

// Require tells whose token it must be ("user", "guest" or "member") and its scopes.
type Require struct {
	Holder string
	Scopes []string
}

// Verifier of one issuer's tokens for one API. Address: where clients reach this API, which DPoP proofs must name.
type Verifier struct {
	issuer, audience, address string
	keys                      *keys
	epochs                    *Epochs
	lock                      sync.Mutex
	used                      map[string]time.Time
	order                     []string
}

// NewVerifier asks the issuer, which is compared as written: a trailing slash counts.
func NewVerifier(issuer, audience, address string, epochs *Epochs) (*Verifier, error) {
	var metadata struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	if err := get(strings.TrimRight(issuer, "/")+"/.well-known/openid-configuration", "", &metadata); err != nil {
		return nil, err
	}
	if metadata.Issuer != issuer {
		return nil, fmt.Errorf("the metadata is of another issuer: %q", metadata.Issuer)
	}
	return &Verifier{issuer: issuer, audience: audience, address: address, keys: &keys{url: metadata.Keys}, epochs: epochs, used: map[string]time.Time{}}, nil
}

// Check gives the claims of a good token, or *Refused.
func (v *Verifier) Check(r *http.Request, require Require) (*Claims, error) {
	shown := r.Header.Values("Authorization")
	name, token, _ := strings.Cut(strings.Join(shown, ","), " ")
	scheme := map[string]string{"bearer": "Bearer", "dpop": "DPoP"}[strings.ToLower(name)]
	if scheme == "" {
		return nil, &Refused{401, "Bearer, DPoP " + algs, "an access token is needed"}
	}
	if len(shown) != 1 {
		return nil, &Refused{400, `Bearer error="invalid_request"`, "there must be one Authorization header"}
	}
	invalid := func(err any) error {
		return &Refused{401, scheme + ` error="invalid_token"`, fmt.Sprint("the access token: ", err)}
	}

	claims := &Claims{}
	_, err := jwt.NewParser(jwt.WithValidMethods(algorithms)).ParseWithClaims(token, claims, func(t *jwt.Token) (any, error) {
		if t.Header["typ"] != "at+jwt" {
			return nil, errors.New("it is no access token")
		}
		kid, _ := t.Header["kid"].(string)
		// the algorithm is the key's to say; the header may only agree with it
		return v.keys.find(kid, t.Method.Alg())
	})
	switch {
	case errors.Is(err, errAway): // an issuer that is away is no fault of the token
		return nil, &Refused{503, "", err.Error()}
	case err != nil:
		return nil, invalid(err)
	case claims.Issuer != v.issuer:
		return nil, invalid("it is of another issuer")
	case !claims.VerifyAudience(v.audience, true):
		return nil, invalid("it is for another audience")
	}

	// a token that is bound to a key is good with that key's proof only, and no other token passes for one
	if claims.Confirm != nil || scheme == "DPoP" {
		if claims.Confirm == nil || claims.Confirm.Thumbprint == "" {
			return nil, invalid("it is not bound to a key")
		}
		if scheme != "DPoP" {
			return nil, &Refused{401, `DPoP error="invalid_token", ` + algs, "the access token is bound to a key"}
		}
		if err := v.checkProof(r, token, claims.Confirm.Thumbprint); err != nil {
			return nil, err
		}
	}
	if v.epochs != nil && v.epochs.isDead(claims) {
		return nil, invalid("it was revoked")
	}

	// without the mark it is neither a guest's nor a member's
	holder := ""
	if claims.IsAnonymous != nil {
		holder = map[bool]string{true: "guest", false: "member"}[*claims.IsAnonymous]
	}
	lacking := &Refused{403, scheme + ` error="insufficient_scope"`, "this is for a " + require.Holder}
	if holder == "" || require.Holder != "user" && require.Holder != holder {
		return nil, lacking
	}
	for _, scope := range require.Scopes {
		if !strings.Contains(" "+claims.Scope+" ", " "+scope+" ") {
			lacking.Message = "a scope is missing"
			return nil, lacking
		}
	}
	return claims, nil
}

// proof is what a DPoP proof says.
type proof struct {
	ID        string `json:"jti"`
	Method    string `json:"htm"`
	Address   string `json:"htu"`
	IssuedAt  *int64 `json:"iat"`
	TokenHash string `json:"ath"`
}

// Valid leaves everything to checkProof.
func (p *proof) Valid() error { return nil }

// checkProof does RFC 9449 section 4.3.
func (v *Verifier) checkProof(r *http.Request, token, thumbprint string) error {
	refuse := func(why any) error {
		return &Refused{401, `DPoP error="invalid_dpop_proof", ` + algs, fmt.Sprint("the DPoP proof: ", why)}
	}
	shown := r.Header.Values("DPoP")
	if len(shown) != 1 {
		return refuse("there must be one")
	}
	claims := &proof{}
	_, err := jwt.NewParser(jwt.WithValidMethods(algorithms)).ParseWithClaims(shown[0], claims, func(t *jwt.Token) (any, error) {
		if t.Header["typ"] != "dpop+jwt" {
			return nil, errors.New("it is of another type")
		}
		text, _ := json.Marshal(t.Header["jwk"])
		key, err := readKey(text)
		switch {
		case err != nil:
			return nil, err
		case key.algorithm != t.Method.Alg():
			return nil, errors.New("its algorithm is not its key's")
		case key.thumbprint != thumbprint:
			return nil, errors.New("it is of another key")
		}
		return key.public, nil
	})
	now := time.Now()
	switch hash := sha256.Sum256([]byte(token)); {
	case err != nil:
		return refuse(err)
	case claims.Method != r.Method:
		return refuse("it is for another method")
	case !sameAddress(claims.Address, v.address+r.URL.EscapedPath()):
		return refuse("it is for another address")
	case claims.TokenHash != base64.RawURLEncoding.EncodeToString(hash[:]):
		return refuse("it is for another token")
	case claims.IssuedAt == nil || *claims.IssuedAt < now.Add(-proofAge).Unix() || *claims.IssuedAt > now.Add(proofAge).Unix():
		return refuse("it is too old, or of the future")
	case claims.ID == "" || len(claims.ID) > 256:
		return refuse("it has no usable jti")
	}
	v.lock.Lock()
	defer v.lock.Unlock()
	// each is remembered for as long as it could be used
	for len(v.order) > 0 && v.used[v.order[0]].Before(now) {
		delete(v.used, v.order[0])
		v.order = v.order[1:]
	}
	id := thumbprint + " " + claims.ID
	if _, used := v.used[id]; used {
		return refuse("it was used before")
	}
	if len(v.used) >= proofs {
		return &Refused{503, "", "too many proofs at a time"}
	}
	v.used[id] = now.Add(2*proofAge + time.Second)
	v.order = append(v.order, id)
	return nil
}

// sameAddress compares without query and fragment.
func sameAddress(one, other string) bool {
	a, err := url.Parse(one)
	b, other_err := url.Parse(other)
	if err != nil || other_err != nil || a.User != nil || a.Opaque != "" {
		return false
	}
	return normal(a) == normal(b)
}

func normal(u *url.URL) string {
	port, path := u.Port(), u.EscapedPath()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[u.Scheme]
	}
	if path == "" {
		path = "/"
	}
	return u.Scheme + "://" + strings.ToLower(u.Hostname()) + ":" + port + path
}
