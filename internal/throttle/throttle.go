// Package throttle counts calls against quotas in fixed windows and decides
// who may pass. It is pure code: no I/O and no clock of its own, so that the
// same lines serve the gateway, replay of past traffic and simulation. What
// must outlive the process is written through a Backing that the caller brings.
package throttle

import (
	"crypto/sha256"
	"encoding/binary"
	"time"
)

// Level is where in the documented order of evaluation a limit sits.
type Level uint8

// The levels, in their order of evaluation.
const (
	LevelNone Level = iota
	LevelAPI
	LevelResource
	LevelSubscription
	LevelBurst
	LevelApplication
	LevelCustom
	LevelBackend
)

var levelNames = [...]string{"none", "api", "resource", "subscription", "burst", "application", "custom", "backend"}

// String is the level as decisions and metrics name it.
func (l Level) String() string {
	if int(l) < len(levelNames) {
		return levelNames[l]
	}
	return "unknown"
}

// Kind is what a quota is measured in.
type Kind uint8

// The kinds of quota. Requests and Events are counted at admission; Bytes and
// Tokens are charged once they are known, so the call that crosses such a limit
// is served and the next one is refused.
const (
	Requests Kind = iota
	Bytes
	Events
	Tokens
)

// after reports whether the quota is charged after admission.
func (k Kind) after() bool { return k == Bytes || k == Tokens }

// String is the unit of the quota.
func (k Kind) String() string {
	switch k {
	case Requests:
		return "requests"
	case Bytes:
		return "bytes"
	case Events:
		return "events"
	case Tokens:
		return "tokens"
	}
	return "unknown"
}

// Key names whose quota is counted: a collision-resistant hash of a level and
// the parts the documentation lists for it, equal on every node and after every
// restart.
type Key [16]byte

// KeyOf is the key of a level and its parts. It does not allocate for parts of
// up to 480 bytes together. Parts are told apart, so ("a", "bc") and ("ab", "c")
// differ.
func KeyOf(l Level, parts ...string) Key {
	var room [512]byte
	b := append(room[:0], byte(l))
	for _, p := range parts {
		b = binary.AppendUvarint(b, uint64(len(p)))
		b = append(b, p...)
	}
	sum := sha256.Sum256(b)
	return Key(sum[:16])
}

// Counter identifies one counter: a key may be counted in several windows and
// kinds at once.
type Counter struct {
	Key    Key
	Window time.Duration
	Kind   Kind
}

// Check is one limit a call must pass. Limits of 0 or less mean no limit.
type Check struct {
	Key    Key
	Level  Level
	Kind   Kind
	Limit  int64         // requests, events, bytes or tokens per window
	Window time.Duration // length of the fixed window
	Policy string        // name of the policy, for the decision
	Soft   bool          // over quota passes and is marked (stopOnQuotaReach=false)
	Local  bool          // counted on this node only (burst, backend throughput)
}

// Counter is the counter the check counts on.
func (c *Check) Counter() Counter { return Counter{Key: c.Key, Window: c.Window, Kind: c.Kind} }

// Decision is the answer to one call. When it is allowed, Level, Policy, Limit,
// Remaining and Reset describe the limit that is nearest to its end (Level is
// LevelNone when nothing limits the call); when refused, the limit that refused.
type Decision struct {
	Allowed   bool
	Marked    bool // passed over a soft quota
	Remote    bool // other gateways' calls, or a decision of the traffic role, tipped the scale
	Level     Level
	Kind      Kind
	Policy    string
	Limit     int64
	Remaining int64 // never below 0
	Window    time.Duration
	Reset     time.Time // end of the window
}

// Number is the number of the window of length d that holds t, counted from
// the Unix epoch: every node with a right clock gives a window the same number.
func Number(t time.Time, d time.Duration) int64 { return number(t.UnixNano(), int64(d)) }

// End is the first instant after window n of length d.
func End(n int64, d time.Duration) time.Time { return time.Unix(0, (n+1)*int64(d)).UTC() }

func number(nanos, d int64) int64 {
	n := nanos / d
	if nanos%d < 0 {
		n--
	}
	return n
}
