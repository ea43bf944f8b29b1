package token

import (
	"encoding/binary"
	"time"

	"github.com/google/uuid"
)

// Claims count in seconds, and a second is too coarse to tell a token issued
// just before a revocation from one issued just after it. Our token ids are
// therefore UUIDs of version 7, which hold the millisecond of their making,
// and a verifier takes IssuedAt from there when it agrees with iat.

// StampID puts the time at, in milliseconds, into an id of version 7.
func StampID(id uuid.UUID, at time.Time) uuid.UUID {
	ms := uint64(at.UnixMilli())
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], ms<<16)
	copy(id[:6], b[:6])
	return id
}

// issuedAt refines iat with the milliseconds in a jti of ours.
func issuedAt(iat time.Time, jti string) time.Time {
	if len(jti) != 36 {
		return iat
	}
	id, err := uuid.Parse(jti)
	if err != nil || id.Version() != 7 {
		return iat
	}
	var b [8]byte
	copy(b[2:], id[:6])
	at := time.UnixMilli(int64(binary.BigEndian.Uint64(b[:]))).UTC()
	if at.Unix() != iat.Unix() {
		return iat
	}
	return at
}
