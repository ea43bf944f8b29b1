package foreign

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// rpcDefinition is the service as an HTTP API, one operation for each method.
func rpcDefinition() string {
	var paths []string
	for _, m := range []string{
		pb.TestService_EmptyCall_FullMethodName, pb.TestService_UnaryCall_FullMethodName, pb.TestService_StreamingOutputCall_FullMethodName,
		pb.TestService_StreamingInputCall_FullMethodName, pb.TestService_FullDuplexCall_FullMethodName,
	} {
		paths = append(paths, `"`+m+`": {"post": {"responses": {"200": {"description": "ok"}}}}`)
	}
	return `{"openapi": "3.0.1", "info": {"title": "RPC", "version": "1"}, "paths": {` + strings.Join(paths, ", ") + `}}`
}

// TestGRPC calls a gRPC server through the gateway, over TLS and without.
func TestGRPC(t *testing.T) {
	t.Parallel()
	w := gateway(t)
	plain, plainAddr := rpcServer(t, insecure.NewCredentials())
	secure, secureAddr := rpcServer(t, credentials.NewServerTLSFromCert(&w.cert.pair))
	_, plainPath := w.publish(t, "RpcPlain", rpcDefinition(), "http://"+plainAddr)
	_, securePath := w.publish(t, "RpcSecure", rpcDefinition(), "https://"+secureAddr)
	_, openPath := w.publish(t, "RpcOpen", open(rpcDefinition()), "http://"+plainAddr)
	for _, c := range []struct {
		name, base, path string
		token            bool
		behind           *service
	}{
		{"TLS to h2c", w.GatewayTLS(), plainPath, true, plain},
		{"h2c to TLS", w.Gateway(), securePath, true, secure},
		{"h2c to h2c", w.Gateway(), openPath, false, plain},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
			defer cancel()
			if c.token {
				ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+w.token)
			}
			rpc(t, ctx, rpcClient(t, c.base, c.path), c.behind)
		})
	}

	t.Run("refusals become statuses", func(t *testing.T) {
		client := rpcClient(t, w.GatewayTLS(), plainPath)
		_, err := client.EmptyCall(t.Context(), &pb.Empty{})
		expectStatus(t, "no token", err, codes.Unauthenticated)
		bad := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer no.to.ken")
		_, err = client.UnaryCall(bad, &pb.SimpleRequest{Payload: payload(1 << 20)})
		expectStatus(t, "a broken token and a large message", err, codes.Unauthenticated)
		stream, err := client.FullDuplexCall(bad)
		if err == nil {
			_, err = stream.Recv()
		}
		expectStatus(t, "a stream with a broken token", err, codes.Unauthenticated)
		good := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+w.token)
		_, err = client.UnimplementedCall(good, &pb.Empty{})
		expectStatus(t, "a method that the API does not have", err, codes.Unimplemented)
		_, down := w.publish(t, "RpcDown", rpcDefinition(), "http://"+ports(t, 1)[0])
		_, err = rpcClient(t, w.Gateway(), down).EmptyCall(good, &pb.Empty{})
		// The original answers 500 here, which tells gRPC nothing.
		if status.Code(err) != codes.Unknown || !strings.Contains(err.Error(), "101503") {
			t.Errorf("nobody behind the API: %v", err)
		}
	})

	t.Run("servers are told that trailers are understood", func(t *testing.T) {
		var te atomic.Value
		backend := goServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			te.Store(fmt.Sprint(r.Header["Te"]))
			w.Header().Set("Content-Type", "application/grpc")
			w.Header().Set("Grpc-Status", "9")
		}), false)
		_, path := w.publish(t, "RpcHeaders", open(rpcDefinition()), backend)
		_, err := rpcClient(t, w.Gateway(), path).EmptyCall(t.Context(), &pb.Empty{})
		expectStatus(t, "an answer of trailers only", err, codes.FailedPrecondition)
		if te.Load() != "[trailers]" {
			t.Errorf("TE is %v", te.Load())
		}
	})
}

func expectStatus(t *testing.T, what string, err error, want codes.Code) {
	t.Helper()
	if status.Code(err) != want {
		t.Errorf("%s: %v, want status %v", what, err, want)
	}
}

func rpc(t *testing.T, ctx context.Context, client pb.TestServiceClient, behind *service) {
	t.Run("unary", func(t *testing.T) {
		must[*pb.Empty](t)(client.EmptyCall(ctx, &pb.Empty{}))
		for _, size := range []int{0, 1, 314159, largest} {
			got := must[*pb.SimpleResponse](t)(client.UnaryCall(ctx, &pb.SimpleRequest{Payload: payload(size), ResponseSize: int32(size)}))
			if len(got.GetPayload().GetBody()) != size || got.GetUsername() != strconv.Itoa(size) {
				t.Errorf("%d bytes: %s arrived and %d came back", size, got.GetUsername(), len(got.GetPayload().GetBody()))
			}
		}
	})

	t.Run("metadata both ways", func(t *testing.T) {
		ctx := metadata.AppendToOutgoingContext(ctx, "x-initial", "first", "x-initial", "second", "x-trailing-bin", "\x00\xab\xff")
		var head, trail metadata.MD
		must[*pb.SimpleResponse](t)(client.UnaryCall(ctx, &pb.SimpleRequest{ResponseSize: 10}, grpc.Header(&head), grpc.Trailer(&trail)))
		if got := fmt.Sprint(head.Get("x-initial")); got != "[first second]" {
			t.Errorf("initial metadata %s", got)
		}
		if got := trail.Get("x-trailing-bin"); len(got) != 1 || got[0] != "\x00\xab\xff" {
			t.Errorf("trailing metadata %q", got)
		}
	})

	t.Run("token stays here", func(t *testing.T) {
		ctx := metadata.AppendToOutgoingContext(ctx, "x-look", "1")
		var trail metadata.MD
		must[*pb.Empty](t)(client.EmptyCall(ctx, &pb.Empty{}, grpc.Trailer(&trail)))
		if got := trail.Get("x-leaked"); len(got) != 1 || got[0] != "" {
			t.Errorf("authorization at the server: %q", got)
		}
	})

	t.Run("error without a message", func(t *testing.T) { // an answer of trailers only
		_, err := client.UnaryCall(ctx, &pb.SimpleRequest{ResponseStatus: &pb.EchoStatus{Code: int32(codes.DataLoss), Message: "gone, ½ of it\r\n%"}})
		if st := status.Convert(err); st.Code() != codes.DataLoss || st.Message() != "gone, ½ of it\r\n%" {
			t.Errorf("status %v", err)
		}
	})

	t.Run("server streams", func(t *testing.T) {
		sizes := []int{31415, 9, 0, 2653, 58979, 1 << 20}
		stream, err := client.StreamingOutputCall(ctx, &pb.StreamingOutputCallRequest{
			ResponseParameters: asks(sizes...), ResponseStatus: &pb.EchoStatus{Code: int32(codes.OutOfRange), Message: "that was all"},
		})
		ok(t, err)
		for i, size := range sizes {
			m, err := stream.Recv()
			ok(t, err)
			if len(m.GetPayload().GetBody()) != size {
				t.Fatalf("message %d has %d bytes, want %d", i, len(m.GetPayload().GetBody()), size)
			}
		}
		_, err = stream.Recv()
		expectStatus(t, "after the messages", err, codes.OutOfRange)
	})

	t.Run("client streams", func(t *testing.T) {
		stream, err := client.StreamingInputCall(ctx)
		ok(t, err)
		total := 0
		for i := range 200 {
			size := i * 131 % 60000
			total += size
			ok(t, stream.Send(&pb.StreamingInputCallRequest{Payload: payload(size)}))
		}
		got, err := stream.CloseAndRecv()
		ok(t, err)
		if int(got.GetAggregatedPayloadSize()) != total {
			t.Errorf("%d bytes arrived, want %d", got.GetAggregatedPayloadSize(), total)
		}
	})

	t.Run("ping-pong", func(t *testing.T) { // each ping is sent after the pong before it
		stream, err := client.FullDuplexCall(ctx)
		ok(t, err)
		for i := range 100 {
			size := i * 997 % 40000
			ok(t, stream.Send(&pb.StreamingOutputCallRequest{ResponseParameters: asks(size), Payload: payload(40000 - size)}))
			m, err := stream.Recv()
			ok(t, err)
			if len(m.GetPayload().GetBody()) != size {
				t.Fatalf("pong %d has %d bytes, want %d", i, len(m.GetPayload().GetBody()), size)
			}
		}
		ok(t, stream.CloseSend())
		if _, err := stream.Recv(); err != io.EOF {
			t.Errorf("after the last pong: %v", err)
		}
	})

	t.Run("many at once", func(t *testing.T) { // on one connection; none may get what is another's
		var group sync.WaitGroup
		for worker := range 20 {
			group.Go(func() {
				for i := range 10 {
					own := fmt.Sprintf("worker-%03d-call-%03d", worker, i)
					size := worker*997 + i*31
					var head metadata.MD
					got, err := client.UnaryCall(metadata.AppendToOutgoingContext(ctx, "x-initial", own),
						&pb.SimpleRequest{Payload: payload(size + 1), ResponseSize: int32(size)}, grpc.Header(&head))
					if err != nil || len(got.GetPayload().GetBody()) != size || got.GetUsername() != strconv.Itoa(size+1) || fmt.Sprint(head.Get("x-initial")) != "["+own+"]" {
						t.Errorf("%s of %d bytes: %v, %d bytes came, %v", own, size, err, len(got.GetPayload().GetBody()), head)
						return
					}
				}
			})
		}
		group.Wait()
	})

	t.Run("server ends a stream that the client does not", func(t *testing.T) {
		stream, err := client.FullDuplexCall(ctx)
		ok(t, err)
		ok(t, stream.Send(&pb.StreamingOutputCallRequest{ResponseStatus: &pb.EchoStatus{Code: int32(codes.Aborted), Message: "enough"}}))
		_, err = stream.Recv()
		expectStatus(t, "in the middle", err, codes.Aborted)
	})

	given := func(t *testing.T) error {
		t.Helper()
		select {
		case err := <-behind.ended:
			return err
		case <-time.After(15 * time.Second):
			t.Error("the server still works on a call that was given up")
			return nil
		}
	}
	t.Run("deadline", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(ctx, "x-wait", "1"), 300*time.Millisecond)
		defer cancel()
		_, err := client.EmptyCall(ctx, &pb.Empty{})
		// The server knows the deadline, too. When it is the first to give up, it
		// resets the stream, which the gateway can only report.
		if status.Code(err) != codes.Unknown || !strings.Contains(err.Error(), "101505") {
			expectStatus(t, "past the deadline", err, codes.DeadlineExceeded)
		}
		given(t)
	})
	t.Run("cancel", func(t *testing.T) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := client.FullDuplexCall(ctx)
		ok(t, err)
		ok(t, stream.Send(&pb.StreamingOutputCallRequest{ResponseParameters: asks(7)}))
		_, err = stream.Recv()
		ok(t, err)
		cancel()
		_, err = stream.Recv()
		expectStatus(t, "after cancel", err, codes.Canceled)
		if err := given(t); err != nil && status.Code(err) != codes.Canceled && !errors.Is(err, context.Canceled) {
			t.Errorf("the server saw %v", err)
		}
	})
}
