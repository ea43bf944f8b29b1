// Package http1 is an HTTP/1.1 server and client of our own. It knows nothing
// of API management: it reads heads strictly, streams bodies at constant
// memory, keeps connections alive, and hands upgraded ones over.
//
// Framing follows RFC 9112 to the letter and refuses where the RFC leaves a
// choice between refusing and repairing: both Content-Length and
// Transfer-Encoding, repeated lengths, any transfer coding but a single
// "chunked", blanks around names and chunk sizes, folded lines, bare CR or LF,
// control characters, a fragment or bytes beyond ASCII in the target, HTTP/0.9.
// One empty line before a request is allowed, as the RFC asks.
//
// A connection is served by one goroutine. Time-outs cost no timers: a sweeper
// per server and per client looks at every connection a few times a second,
// expires what is late, and asks the kernel whether a client that waits for its
// answer is still there. A second goroutine exists only while a request body
// streams to a backend, so that an early answer is seen.
//
// Strings in requests and answers alias the connection's buffer and are valid
// until the handler returns, or the answer is closed.
package http1
