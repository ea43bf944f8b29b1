package config

import "log/slog"

const masked = "********"

// Secret cannot be printed by accident, in a log, a dump or a test failure.
type Secret string

// String hides the value from fmt.
func (Secret) String() string { return masked }

// GoString hides the value from %#v.
func (Secret) GoString() string { return masked }

// LogValue hides the value from slog.
func (Secret) LogValue() slog.Value { return slog.StringValue(masked) }

// MarshalText hides the value from encoders.
func (Secret) MarshalText() ([]byte, error) { return []byte(masked), nil }

// Reveal is the secret itself.
func (s Secret) Reveal() string { return string(s) }
