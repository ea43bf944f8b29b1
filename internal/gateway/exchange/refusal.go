package exchange

import (
	"strings"
	"time"

	"github.com/cardea-apim/cardea/internal/fault"
)

// Shape is the form of a refusal's body (reference: gateway §5).
type Shape uint8

// The shapes.
const (
	Fault    Shape = iota // code, type, message, description
	Auth                  // code, message, description; a 401 names the schemes
	Throttle              // code, message, description, nextAccessTime
	Threat                // code, message, description
	Blocked               // code, type, description
	WrongKey              // <error><message>: a key of the wrong kind of environment
)

// Refusal ends a flow: a row of the catalogue, the rule that made the decision
// and what an operator needs to understand it.
type Refusal struct {
	Fault   *fault.Error
	Shape   Shape
	Rule    string
	Details map[string]string
	Retry   time.Time // zero: not known
}

// Error says the rule and the fault.
func (r *Refusal) Error() string { return r.Rule + ": " + r.Fault.Error() }

// Unwrap gives the fault.
func (r *Refusal) Unwrap() error { return r.Fault }

// Refuse makes a refusal. Pairs are names and values of details; values are
// copied, for they may be parts of a request and outlive it.
func Refuse(shape Shape, f *fault.Error, rule string, pairs ...string) *Refusal {
	r := &Refusal{Fault: f, Shape: shape, Rule: rule}
	if len(pairs) > 1 {
		r.Details = make(map[string]string, len(pairs)/2)
		for i := 0; i+1 < len(pairs); i += 2 {
			r.Details[pairs[i]] = strings.Clone(pairs[i+1])
		}
	}
	return r
}
