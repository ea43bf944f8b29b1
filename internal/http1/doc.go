// Package http1 is an HTTP/1.1 server and client of our own. It knows nothing
// of API management: it reads heads strictly, streams bodies at constant
// memory, keeps connections alive, and hands upgraded ones over.
//
// Framing follows RFC 9112 to the letter and refuses where the RFC leaves a
// choice between refusing and repairing: both Content-Length and
// Transfer-Encoding, repeated lengths, any transfer coding but a single
// "chunked", blanks around names and chunk sizes, folded lines, bare CR or LF,
// control characters, a fragment or bytes beyond ASCII in the target, HTTP/0.9.
// Whatever is refused is answered once, and its connection closed. Where the RFC
// leaves a choice, or a reader may expect another, these are ours; the model of
// the tests makes the same:
//
//	empty line before a request    one is skipped, two are refused
//	HTTP/1.2 and later, HTTP/2.0   505
//	Host in HTTP/1.0               may be missing, not repeated
//	Host                           empty is allowed, a port alone is not
//	Transfer-Encoding in HTTP/1.0  400; in an answer: no answer
//	other transfer codings         400 ("gzip, chunked" and "identity" too)
//	Content-Length: 3, 3           400, though both are the same
//	chunk sizes                    at most 15 digits, no blanks around them
//	chunk extensions               any text behind ";", 512 bytes a line, 8 KB a body
//	trailers                       64 fields and 8 KB; one that frames or routes is
//	                               refused, one that means something in a head only
//	                               is left out, both ways
//	Expect                         anything but one 100-continue is 417; none in HTTP/1.0
//	CONNECT                        needs name and port, never succeeds, and closes
//	target "*"                     of OPTIONS only
//	absolute targets               http and https only, without user; they decide the host
//	characters of a target         any visible ASCII but "#"
//	answers                        as strict as requests: else the call fails
//	bytes behind an answer         the connection is not used again
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
