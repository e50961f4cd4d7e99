package bytelock

const knowsHolders = false
