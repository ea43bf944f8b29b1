package usage

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"math"
	"time"
)

// DecisionFacts is what a decision id itself tells, on any node with the key
// and after any restart, even when the kept details are gone.
type DecisionFacts struct {
	Time    time.Time // whole milliseconds
	Gateway string    // node name
	Status  int
	Code    int
	API     string // id; empty when no API was found
	Tenant  string
	Rule    string
}

// Why OpenDecision fails.
var (
	ErrDecisionShape = errors.New("decision id is malformed")
	ErrDecisionSeal  = errors.New("decision id was not made with this key")
)

const (
	decisionVersion = 1
	decisionMAC     = 12  // bytes of HMAC-SHA-256 kept: 96 bits
	decisionText    = 64  // longest string kept, bytes
	decisionMax     = 512 // longest id looked at, characters
)

// SealDecision makes the id of a decision: the facts and a truncated HMAC in
// base64url, about 80 to 160 characters. Strings over 64 bytes are cut. Ids of
// equal facts are equal.
func SealDecision(key []byte, f DecisionFacts) string {
	var room [512]byte
	b := append(room[:0], decisionVersion)
	b = binary.AppendUvarint(b, uint64(max(f.Time.UnixMilli(), 0)))
	b = binary.AppendUvarint(b, uint64(max(f.Status, 0)))
	b = binary.AppendUvarint(b, uint64(max(f.Code, 0)))
	for _, s := range [...]string{f.Gateway, f.API, f.Tenant, f.Rule} {
		s = s[:min(len(s), decisionText)]
		b = append(b, byte(len(s)))
		b = append(b, s...)
	}
	b = append(b, decisionSum(key, b)...)
	return base64.RawURLEncoding.EncodeToString(b)
}

// OpenDecision reads an id that SealDecision made with the same key. Errors
// are ErrDecisionShape and ErrDecisionSeal.
func OpenDecision(key []byte, id string) (DecisionFacts, error) {
	if len(id) > decisionMax {
		return DecisionFacts{}, ErrDecisionShape
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(id)
	if err != nil || len(b) < decisionMAC+8 || b[0] != decisionVersion {
		return DecisionFacts{}, ErrDecisionShape
	}
	b, sum := b[:len(b)-decisionMAC], b[len(b)-decisionMAC:]
	if !hmac.Equal(sum, decisionSum(key, b)) {
		return DecisionFacts{}, ErrDecisionSeal
	}
	b = b[1:]
	var numbers [3]uint64
	for i := range numbers {
		n, size := binary.Uvarint(b)
		if size <= 0 || n > math.MaxInt64/2 {
			return DecisionFacts{}, ErrDecisionShape
		}
		numbers[i], b = n, b[size:]
	}
	var texts [4]string
	for i := range texts {
		if len(b) == 0 || len(b) < 1+int(b[0]) {
			return DecisionFacts{}, ErrDecisionShape
		}
		n := int(b[0])
		texts[i], b = string(b[1:1+n]), b[1+n:]
	}
	if len(b) != 0 {
		return DecisionFacts{}, ErrDecisionShape
	}
	return DecisionFacts{
		Time: time.UnixMilli(int64(numbers[0])).UTC(), Status: int(numbers[1]), Code: int(numbers[2]),
		Gateway: texts[0], API: texts[1], Tenant: texts[2], Rule: texts[3],
	}, nil
}

func decisionSum(key, b []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte("cardea decision\x00"))
	h.Write(b)
	return h.Sum(nil)[:decisionMAC]
}
