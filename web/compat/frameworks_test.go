package compat

import (
	"context"
	"database/sql"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/go-chi/chi/v5"
	"github.com/labstack/echo/v4"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/calmdocs/dblocker"
	"github.com/calmdocs/dblocker/internal/fakedriver"
	"github.com/calmdocs/dblocker/web"
)

// currentUser finds the user as a login check would.
func currentUser(r *http.Request) (id any, ok bool) {
	name := r.Header.Get("X-User")
	return name, name != ""
}

// lockedUser returns whose lock a section with ctx has.
func lockedUser(ctx context.Context, db *sql.DB) (string, error) {
	_, unlock, err := dblocker.Lock(ctx, db)
	if err != nil {
		return "", err
	}
	defer unlock()
	holds, err := dblocker.Holds(db)
	if err != nil {
		return "", err
	}
	return holds[0].User, nil
}

func open(t *testing.T) *sql.DB {
	t.Helper()
	db, err := dblocker.OpenDB(fakedriver.NewServer(fakedriver.Full()).Connector(), dblocker.Untagged(dblocker.ErrorUntagged))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// TestFrameworks: behind each, a request has the lock of its user, and one without a user reaches its handler.
func TestFrameworks(t *testing.T) {
	for name, handler := range map[string]func(db *sql.DB) http.Handler{
		"net/http": ofNetHTTP, "chi": ofChi, "echo": ofEcho, "gin": ofGin,
	} {
		t.Run(name, func(t *testing.T) {
			h := handler(open(t))
			for user, want := range map[string]struct {
				code int
				body string
			}{"ann": {200, "ann"}, "ben": {200, "ben"}, "": {500, "Internal Server Error\n"}} {
				r := httptest.NewRequest("GET", "/", nil)
				r.Header.Set("X-User", user)
				w := httptest.NewRecorder()
				h.ServeHTTP(w, r)
				if w.Code != want.code || w.Body.String() != want.body {
					t.Errorf("user %q: got %d %q, want %d %q", user, w.Code, w.Body, want.code, want.body)
				}
			}
		})
	}
}

func ofNetHTTP(db *sql.DB) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		user, err := lockedUser(r.Context(), db)
		if err != nil {
			web.Error(w, err)
			return
		}
		w.Write([]byte(user))
	})
	return web.Middleware(currentUser)(mux)
}

func ofChi(db *sql.DB) http.Handler {
	r := chi.NewRouter()
	r.Use(web.Middleware(currentUser))
	r.Get("/", func(w http.ResponseWriter, r *http.Request) {
		user, err := lockedUser(r.Context(), db)
		if err != nil {
			web.Error(w, err)
			return
		}
		w.Write([]byte(user))
	})
	return r
}

func ofEcho(db *sql.DB) http.Handler {
	e := echo.New()
	e.Use(echo.WrapMiddleware(web.Middleware(currentUser)))
	e.GET("/", func(c echo.Context) error {
		user, err := lockedUser(c.Request().Context(), db)
		if err != nil {
			web.Error(c.Response(), err)
			return nil
		}
		return c.String(http.StatusOK, user)
	})
	return e
}

func ofGin(db *sql.DB) http.Handler {
	gin.SetMode(gin.ReleaseMode)
	g := gin.New()
	tag := web.Middleware(currentUser)
	g.Use(func(c *gin.Context) {
		tag(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			c.Request = r
			c.Next()
		})).ServeHTTP(c.Writer, c.Request)
	})
	g.GET("/", func(c *gin.Context) {
		user, err := lockedUser(c.Request.Context(), db)
		if err != nil {
			web.Error(c.Writer, err)
			return
		}
		c.String(http.StatusOK, user)
	})
	return g
}

// userOf finds the user of an RPC as a login check would.
func userOf(ctx context.Context) (id any, ok bool) {
	md, _ := metadata.FromIncomingContext(ctx)
	if names := md.Get("x-user"); len(names) > 0 {
		return names[0], true
	}
	return nil, false
}

func tagCall(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if id, ok := userOf(ctx); ok {
		ctx = dblocker.WithUser(ctx, id)
	}
	return handler(ctx, req)
}

func tagStream(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if id, ok := userOf(s.Context()); ok {
		s = &taggedStream{s, dblocker.WithUser(s.Context(), id)}
	}
	return handler(srv, s)
}

type taggedStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *taggedStream) Context() context.Context { return s.ctx }

// health answers with an error that names the user.
type health struct {
	grpc_health_v1.UnimplementedHealthServer
	db *sql.DB
}

func (h *health) Check(ctx context.Context, _ *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	user, err := lockedUser(ctx, h.db)
	if dblocker.Retryable(err) {
		return nil, status.Error(codes.Unavailable, "busy, try again")
	}
	return nil, status.Error(codes.Aborted, user)
}

func (h *health) Watch(_ *grpc_health_v1.HealthCheckRequest, s grpc.ServerStreamingServer[grpc_health_v1.HealthCheckResponse]) error {
	user, _ := lockedUser(s.Context(), h.db)
	return status.Error(codes.Aborted, user)
}

// TestGRPC: calls and streams have the lock of their user.
func TestGRPC(t *testing.T) {
	db := open(t)
	s := grpc.NewServer(grpc.UnaryInterceptor(tagCall), grpc.StreamInterceptor(tagStream))
	grpc_health_v1.RegisterHealthServer(s, &health{db: db})
	l := bufconn.Listen(1 << 10)
	go s.Serve(l)
	t.Cleanup(s.Stop)
	cc, err := grpc.NewClient("passthrough:///", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	client := grpc_health_v1.NewHealthClient(cc)
	for _, user := range []string{"ann", "ben", ""} {
		ctx := t.Context()
		if user != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "x-user", user)
		}
		_, err := client.Check(ctx, &grpc_health_v1.HealthCheckRequest{})
		if got := status.Convert(err); got.Code() != codes.Aborted || got.Message() != user {
			t.Errorf("a call of %q: got %v", user, err)
		}
		stream, err := client.Watch(ctx, &grpc_health_v1.HealthCheckRequest{})
		if err == nil {
			_, err = stream.Recv()
		}
		if got := status.Convert(err); got.Code() != codes.Aborted || got.Message() != user {
			t.Errorf("a stream of %q: got %v", user, err)
		}
	}
}
