package testdb

import (
	"runtime/debug"
	"slices"
)

// UnderRace tells whether the test is compiled with the race detector, which makes it slow.
func UnderRace() bool {
	info, _ := debug.ReadBuildInfo()
	return info != nil && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}
