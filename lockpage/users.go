package lockpage

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
)

// HideUsers is for [Page.Users]: no ID is shown.
func HideUsers(string) string { return "hidden" }

// HashUsers returns a function for [Page.Users] that shows a short hash in place of an ID, the same for one user as long as
// the program runs. It is keyed with random bytes: nobody can find the ID of a hash by trying all that there are.
func HashUsers() func(id string) string {
	key := make([]byte, sha256.Size)
	rand.Read(key)
	return func(id string) string {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(id))
		return "#" + hex.EncodeToString(h.Sum(nil)[:5])
	}
}
