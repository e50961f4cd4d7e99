package dblockerotel

import "go.opentelemetry.io/otel/attribute"

// Names as of the semantic conventions 1.45. Those of our own begin with dblocker.
const (
	operationDuration = "db.client.operation.duration"
	connectionCount   = "db.client.connection.count"
	connectionLimit   = "db.client.connection.limit"
	idleMax           = "db.client.connection.idle.max"
	pendingRequests   = "db.client.connection.pending_requests"
	timeouts          = "db.client.connection.timeouts"
	createTime        = "db.client.connection.create_time"
	useTime           = "db.client.connection.use_time"
	connectionWait    = "db.client.connection.wait_time"

	waitTime      = "dblocker.lock.wait_time"
	holdTime      = "dblocker.lock.hold_time"
	lockCount     = "dblocker.lock.count"
	deadlocks     = "dblocker.lock.deadlocks"
	upgrades      = "dblocker.lock.upgrades"
	longHolds     = "dblocker.lock.long_holds"
	lostLocks     = "dblocker.lock.lost"
	spills        = "dblocker.spill.count"
	batchSize     = "dblocker.commit.group_size"
	syncTime      = "dblocker.sync.time"
	lostSessions  = "dblocker.session.lost"
	lookups       = "dblocker.statement.lookups"
	keptStmts     = "dblocker.statement.kept"
	openDatabases = "dblocker.database.open"
	dropped       = "dblocker.event.dropped"
)

const (
	systemName    = attribute.Key("db.system.name")
	namespaceName = attribute.Key("db.namespace")
	operationName = attribute.Key("db.operation.name")
	statusCode    = attribute.Key("db.response.status_code")
	errorType     = attribute.Key("error.type")
	serverAddress = attribute.Key("server.address")
	serverPort    = attribute.Key("server.port")
	poolName      = attribute.Key("db.client.connection.pool.name")
	poolState     = attribute.Key("db.client.connection.state")

	what    = attribute.Key("dblocker.what")
	mode    = attribute.Key("dblocker.lock.mode")
	kind    = attribute.Key("dblocker.lock.kind")
	state   = attribute.Key("dblocker.lock.state")
	found   = attribute.Key("dblocker.statement.found")
	outcome = attribute.Key("dblocker.outcome")
	user    = attribute.Key("dblocker.user") // of spans only
	tag     = attribute.Key("dblocker.tag")
	blocker = attribute.Key("dblocker.blocked_by")
)

var (
	operationTimes = []float64{0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10} // which the conventions want
	lockTimes      = []float64{0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 120}
	groupSizes     = []float64{1, 2, 4, 8, 16, 32, 64}
)
