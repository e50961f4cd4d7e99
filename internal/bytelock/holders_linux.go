package bytelock

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// holdersByProc looks through the descriptors of all processes for the file, and returns who has a lock in the range.
func holdersByProc(file os.FileInfo, lock span) (holders []Holder) {
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, process := range processes {
		pid, err := strconv.Atoi(filepath.Base(process))
		if err != nil {
			continue
		}
		if m := modeIn(process, file, lock); m != none {
			holders = append(holders, Holder{pid, m})
		}
	}
	return holders
}

// modeIn returns the strongest lock that a process has in the range.
func modeIn(process string, file os.FileInfo, lock span) (strongest Mode) {
	descriptors, _ := os.ReadDir(process + "/fd")
	for _, d := range descriptors {
		info, err := os.Stat(process + "/fd/" + d.Name())
		if err != nil || !os.SameFile(info, file) {
			continue
		}
		text, _ := os.ReadFile(process + "/fdinfo/" + d.Name())
		for line := range strings.Lines(string(text)) {
			strongest = max(strongest, modeOfLine(line, lock))
		}
	}
	return strongest
}

// modeOfLine reads a line like
//
//	lock:	1: OFDLCK  ADVISORY  WRITE -1 fd:00:1234 100 100
//
// of fdinfo, where the last two are the first and the last byte. It returns the mode, if it is about the range.
func modeOfLine(line string, lock span) Mode {
	f := strings.Fields(line)
	if len(f) != 9 || f[0] != "lock:" || f[2] != "OFDLCK" {
		return none
	}
	first, err := strconv.ParseInt(f[7], 10, 64)
	if err != nil || first >= lock.start+lock.length {
		return none
	}
	if last, err := strconv.ParseInt(f[8], 10, 64); f[8] != "EOF" && (err != nil || last < lock.start) {
		return none
	}
	switch f[4] {
	case "READ":
		return Shared
	case "WRITE":
		return Exclusive
	}
	return none
}
