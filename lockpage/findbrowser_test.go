package lockpage

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/calmdocs/dblocker/internal/debs"
	"github.com/calmdocs/dblocker/internal/testdb"
)

var browser = flag.String("lockpage.browser", "", "the path of a Chromium, or the word download; empty is one of this machine, without which the tests in a browser are skipped")

// unpacked is Debian's Chromium with all that it needs but the C and C++ libraries. Some libraries have names that do not end in a number.
var unpacked = debs.Program{
	Dir:     "chromium",
	Package: "chromium",
	Wanted:  regexp.MustCompile(`^(chromium(-common)?|fonts-dejavu-core|libharfbuzz0b|libjpeg\d+-turbo|libvorbis0a|libsnappy1v5)$`),
}

// findBrowser returns the path of a Chromium and what has to be in its environment, or skips the test where there is none.
func findBrowser(t testing.TB) (path string, env []string) {
	t.Helper()
	switch *browser {
	case "":
		for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
			if path, err := exec.LookPath(name); err == nil {
				return path, nil
			}
		}
		t.Skip("there is no Chromium; on Debian: apt-get install chromium, or without root: go test ./lockpage -lockpage.browser=download")
	case "download":
		return downloadBrowser(t)
	}
	return *browser, nil
}

// downloadBrowser has Chromium unpacked in the cache, with fonts and libraries that it finds by its environment.
func downloadBrowser(t testing.TB) (path string, env []string) {
	t.Helper()
	root, err := testdb.UnpackProgram(t.Context(), t.Logf, unpacked)
	must(t, err)
	fonts := filepath.Join(t.TempDir(), "fonts.conf")
	must(t, os.WriteFile(fonts, fmt.Appendf(nil, `<?xml version="1.0"?><fontconfig><dir>%s</dir><cachedir>%s</cachedir></fontconfig>`,
		filepath.Join(root, "usr/share/fonts"), filepath.Join(t.TempDir(), "fonts")), 0o644))
	libraries := debs.Libraries(root)
	inner, _ := filepath.Glob(filepath.Join(root, "usr/lib/*-linux-gnu*/pulseaudio")) // where a library looks for another one at a fixed place
	for _, dir := range inner {
		libraries += ":" + dir
	}
	return filepath.Join(root, "usr/lib/chromium/chromium"), []string{"LD_LIBRARY_PATH=" + libraries, "FONTCONFIG_FILE=" + fonts}
}
