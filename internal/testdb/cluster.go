package testdb

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/calmdocs/dblocker/internal/debs"
)

// A cluster is what a throwaway server serves: a data directory and an address, which stay the same when the server is
// restarted. (The word is PostgreSQL's.)
type cluster struct {
	Host           string
	Port           int
	User, Password string

	dir     string
	root    string // of unpacked programs; "" for installed ones
	account *account
	janitor *exec.Cmd
	alive   io.Closer // the janitor acts when this is closed
}

// janitorScript waits until its standard input ends, which the kernel sees to however this process ends, also by kill -9. Then
// it ends by signal $3 the program whose number is in the file $2, with its process group, and removes the cluster's directory
// $1. A zombie counts as gone: in a container nobody may reap it.
const janitorScript = `
read -r _
if pid=$(cat "$2" 2>/dev/null); then
	kill "-$3" "-$pid"
	tries=60
	while [ "$tries" -gt 0 ] && kill -0 "$pid" && ! grep -q '^State:.Z' "/proc/$pid/status"; do
		tries=$((tries - 1))
		sleep 0.1
	done
	kill -9 "-$pid"
fi
rm -rf "$1"
`

func newCluster(root string, abort syscall.Signal) (*cluster, error) {
	account, err := unprivileged()
	if err != nil {
		return nil, err
	}
	dir, err := account.tempDir()
	if err != nil {
		return nil, err
	}
	c := &cluster{Host: "127.0.0.1", User: "dblocker", Password: randomHex(12), dir: dir, root: root, account: account}
	c.janitor = exec.Command("sh", "-c", janitorScript, "janitor", dir, c.pidFile(), strconv.Itoa(int(abort)))
	c.janitor.SysProcAttr = detached(nil)
	if c.alive, err = c.janitor.StdinPipe(); err != nil {
		return nil, err
	}
	return c, c.janitor.Start()
}

// remove has the janitor end what is left of the server, and remove the directory.
func (c *cluster) remove() error {
	c.alive.Close()
	return c.janitor.Wait()
}

func (c *cluster) path(name string) string { return filepath.Join(c.dir, name) }
func (c *cluster) pidFile() string         { return c.path("pid") }
func (c *cluster) logFile() string         { return c.path("log") }

// writeFile writes a file that only the servers' account can read.
func (c *cluster) writeFile(path, content string) error {
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil || c.account == nil {
		return err
	}
	return os.Chown(path, c.account.uid, c.account.gid)
}

// pidScript writes the pid file before the program starts, so that there is no moment when the janitor does not know of it.
const pidScript = `echo $$ >"$0" && exec "$@"`

// program prepares a program of the server's package: as the right user, and without the PG* and MYSQL_* variables of ours.
func (c *cluster) program(argv ...string) *exec.Cmd {
	cmd := exec.Command("sh", append([]string{"-c", pidScript, c.pidFile()}, argv...)...)
	cmd.Dir = c.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"}
	if c.root != "" {
		cmd.Env = append(cmd.Env, "LD_LIBRARY_PATH="+debs.Libraries(c.root))
	}
	cmd.SysProcAttr = detached(c.account)
	return cmd
}

// ended tells the janitor that the program is gone: it must not signal a process that got the same number later.
func (c *cluster) ended() {
	os.Remove(c.pidFile())
}

// run runs a program to its end.
func (c *cluster) run(argv ...string) error {
	out, err := c.program(argv...).CombinedOutput()
	c.ended()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", argv[0], err, out)
	}
	return nil
}

// takePort chooses a port that nobody listens on. Somebody may until the server does; then the server ends, and start tries
// another.
func (c *cluster) takePort() error {
	l, err := net.Listen("tcp", net.JoinHostPort(c.Host, "0"))
	if err != nil {
		return err
	}
	defer l.Close()
	c.Port = l.Addr().(*net.TCPAddr).Port
	return nil
}
