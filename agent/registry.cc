#include "agent/registry.h"

#include <fcntl.h>
#include <sqlite3.h>

#include <array>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/file.h"

namespace agent {
namespace {

using base::fail_because;
using base::Result;
using base::Status;
using nlohmann::json;

constexpr int kApplicationId = 0x62726f64;  // "brod", in the file's header

// Each brings a registry from the form before it to its own; a form that was ever released is not
// changed again, a new one is added.
constexpr std::array kMigrations{
    R"sql(
      CREATE TABLE versions (
        name TEXT PRIMARY KEY,
        last INTEGER NOT NULL
      ) STRICT, WITHOUT ROWID;
      CREATE TABLE functions (
        name TEXT PRIMARY KEY,
        version INTEGER NOT NULL,
        code_digest TEXT NOT NULL,
        deployed_at_ms INTEGER NOT NULL,
        runtime TEXT NOT NULL,
        handler TEXT NOT NULL,
        memory_bytes INTEGER NOT NULL,
        milli_cpu INTEGER NOT NULL,
        pids INTEGER NOT NULL,
        timeout_ms INTEGER NOT NULL,
        concurrency INTEGER NOT NULL,
        queue INTEGER NOT NULL,
        reuse INTEGER NOT NULL,
        idle_ms INTEGER NOT NULL,
        network TEXT NOT NULL,
        environment TEXT NOT NULL
      ) STRICT, WITHOUT ROWID;
    )sql",
    "ALTER TABLE functions ADD COLUMN listen TEXT NOT NULL DEFAULT ''",
    "CREATE TABLE commands (id TEXT PRIMARY KEY, record TEXT NOT NULL) STRICT, WITHOUT ROWID",
    R"sql(
      ALTER TABLE functions ADD COLUMN allow TEXT NOT NULL DEFAULT '[]';
      ALTER TABLE functions ADD COLUMN network_rate INTEGER NOT NULL DEFAULT 0;
      ALTER TABLE functions ADD COLUMN network_connections INTEGER NOT NULL DEFAULT 1024;
    )sql",
    R"sql(
      CREATE TABLE layers (
        name TEXT PRIMARY KEY,
        digest TEXT NOT NULL,
        published_at_ms INTEGER NOT NULL
      ) STRICT, WITHOUT ROWID;
      ALTER TABLE functions ADD COLUMN layers TEXT NOT NULL DEFAULT '[]';
      ALTER TABLE functions ADD COLUMN layer_digests TEXT NOT NULL DEFAULT '[]';
    )sql",
    "ALTER TABLE functions ADD COLUMN runtime_chosen INTEGER NOT NULL DEFAULT 0",
};

// One prepared statement, run once.
class Statement {
 public:
  Statement(sqlite3* database, const char* sql) {
    status_ = ::sqlite3_prepare_v2(database, sql, -1, &statement_, nullptr);
  }
  ~Statement() { ::sqlite3_finalize(statement_); }
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  Statement& bind(std::string_view text) {
    return note(::sqlite3_bind_text64(statement_, ++bound_, text.data(), text.size(),
                                      SQLITE_TRANSIENT, SQLITE_UTF8));
  }
  Statement& bind(std::int64_t number) {
    return note(::sqlite3_bind_int64(statement_, ++bound_, number));
  }

  // SQLITE_ROW, SQLITE_DONE, or an error's code.
  int step() {
    if (status_ == SQLITE_OK) {
      const int got = ::sqlite3_step(statement_);
      status_ = got == SQLITE_ROW || got == SQLITE_DONE ? SQLITE_OK : got;
      return got;
    }
    return status_;
  }

  std::string text() {
    const auto* bytes = reinterpret_cast<const char*>(::sqlite3_column_text(statement_, column_));
    const auto size = static_cast<std::size_t>(::sqlite3_column_bytes(statement_, column_));
    ++column_;
    return bytes == nullptr ? std::string() : std::string(bytes, size);
  }
  std::int64_t number() { return ::sqlite3_column_int64(statement_, column_++); }
  void next_row() { column_ = 0; }

 private:
  Statement& note(int status) {
    status_ = status_ == SQLITE_OK ? status : status_;
    return *this;
  }

  sqlite3_stmt* statement_ = nullptr;
  int status_ = SQLITE_OK;
  int bound_ = 0;
  int column_ = 0;
};

// Reads the columns of a row into a function, remembering whether each number fits its field.
class RowReader {
 public:
  explicit RowReader(Statement& row) : row_(row) {}

  void text(std::string& field) { field = row_.text(); }
  template <typename Number>
  void number(Number& field) {
    const std::int64_t value = row_.number();
    sound_ = sound_ && std::in_range<Number>(value) && value >= 0;
    field = static_cast<Number>(value);
  }
  void flag(bool& field) {
    const std::int64_t value = row_.number();
    sound_ = sound_ && (value == 0 || value == 1);
    field = value == 1;
  }
  void milliseconds(std::chrono::milliseconds& field) {
    std::int64_t count = 0;
    number(count);
    field = std::chrono::milliseconds(count);
  }
  void environment(std::map<std::string, std::string>& field) {
    const json object = json::parse(row_.text(), nullptr, false);
    sound_ = sound_ && object.is_object();
    for (const auto& [key, value] : object.items()) {
      sound_ = sound_ && value.is_string();
      field[key] = value.is_string() ? value.get<std::string>() : std::string();
    }
  }
  void list(std::vector<std::string>& field) {
    const json array = json::parse(row_.text(), nullptr, false);
    sound_ = sound_ && array.is_array();
    for (const json& text : array) {
      sound_ = sound_ && text.is_string();
      field.push_back(text.is_string() ? text.get<std::string>() : std::string());
    }
  }
  bool sound() const { return sound_; }

 private:
  Statement& row_;
  bool sound_ = true;
};

constexpr const char* kSelect =
    "SELECT name, version, code_digest, deployed_at_ms, runtime, handler, memory_bytes, milli_cpu,"
    " pids, timeout_ms, concurrency, queue, reuse, idle_ms, network, environment, listen,"
    " allow, network_rate, network_connections, layers, layer_digests, runtime_chosen"
    " FROM functions ORDER BY name";

constexpr const char* kInsert =
    "INSERT OR REPLACE INTO functions (name, version, code_digest, deployed_at_ms, runtime,"
    " handler, memory_bytes, milli_cpu, pids, timeout_ms, concurrency, queue, reuse, idle_ms,"
    " network, environment, listen, allow, network_rate, network_connections, layers,"
    " layer_digests, runtime_chosen)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

bool read_function(Statement& row, Function& function) {
  RowReader reader(row);
  FunctionSettings& settings = function.settings;
  row.next_row();
  reader.text(function.name);
  reader.number(function.version);
  reader.text(function.code_digest);
  reader.number(function.deployed_at_ms);
  reader.text(settings.runtime);
  reader.text(settings.handler);
  reader.number(settings.memory_bytes);
  reader.number(settings.milli_cpu);
  reader.number(settings.pids);
  reader.milliseconds(settings.timeout);
  reader.number(settings.concurrency);
  reader.number(settings.queue);
  reader.flag(settings.reuse);
  reader.milliseconds(settings.idle);
  reader.text(settings.network);
  reader.environment(settings.environment);
  reader.text(settings.listen);
  reader.list(settings.allow);
  reader.number(settings.network_rate);
  reader.number(settings.network_connections);
  reader.list(settings.layers);
  reader.list(function.layer_digests);
  reader.flag(function.runtime_chosen);
  return reader.sound() && settings.layers.size() == function.layer_digests.size();
}

// In the order of kInsert.
void bind_function(Statement& insert, const Function& function) {
  const FunctionSettings& settings = function.settings;
  insert.bind(function.name)
      .bind(static_cast<std::int64_t>(function.version))
      .bind(function.code_digest)
      .bind(function.deployed_at_ms)
      .bind(settings.runtime)
      .bind(settings.handler)
      .bind(static_cast<std::int64_t>(settings.memory_bytes))
      .bind(settings.milli_cpu)
      .bind(settings.pids)
      .bind(settings.timeout.count())
      .bind(settings.concurrency)
      .bind(settings.queue)
      .bind(settings.reuse ? 1 : 0)
      .bind(settings.idle.count())
      .bind(settings.network)
      .bind(json(settings.environment).dump(-1, ' ', false, json::error_handler_t::replace))
      .bind(settings.listen)
      .bind(json(settings.allow).dump(-1, ' ', false, json::error_handler_t::replace))
      .bind(static_cast<std::int64_t>(settings.network_rate))
      .bind(settings.network_connections)
      .bind(json(settings.layers).dump())
      .bind(json(function.layer_digests).dump())
      .bind(function.runtime_chosen ? 1 : 0);
}

}  // namespace

class Registry::Database {
 public:
  explicit Database(std::string path) : path_(std::move(path)) {}
  ~Database() { ::sqlite3_close_v2(handle_); }
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  sqlite3* handle() const { return handle_; }

  Status open() {
    // SQLite would make it readable to everyone, and environments may hold secrets.
    BROOD_CHECK(base::open_at(AT_FDCWD, path_, O_RDWR | O_CREAT | O_NOFOLLOW, 0600));
    constexpr int kFlags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    if (::sqlite3_open_v2(path_.c_str(), &handle_, kFlags, nullptr) != SQLITE_OK) {
      return failed("open");
    }
    BROOD_CHECK(run("PRAGMA locking_mode=EXCLUSIVE"));
    BROOD_CHECK(check_owner());
    BROOD_CHECK(run("PRAGMA journal_mode=WAL"));
    BROOD_CHECK(run("PRAGMA synchronous=FULL"));
    BROOD_CHECK(check_sound());
    return in_transaction([this] { return migrate(); });
  }

  Status run(const char* sql) {
    return ::sqlite3_exec(handle_, sql, nullptr, nullptr, nullptr) == SQLITE_OK ? Status{}
                                                                                : failed("use");
  }

  // Ends the statement's only step, which gives no row.
  Status finish(Statement& statement) {
    return statement.step() == SQLITE_DONE ? Status{} : failed("change");
  }

  // Within a transaction; gives the function its version.
  Status put(Function& function) {
    Statement count(handle_,
                    "INSERT INTO versions (name, last) VALUES (?, 1)"
                    " ON CONFLICT (name) DO UPDATE SET last = last + 1 RETURNING last");
    if (count.bind(function.name).step() != SQLITE_ROW) {
      return failed("change");
    }
    function.version = static_cast<std::uint64_t>(count.number());
    BROOD_CHECK(finish(count));
    Statement insert(handle_, kInsert);
    bind_function(insert, function);
    return finish(insert);
  }

  template <typename Work>
  Status in_transaction(Work work) {
    BROOD_CHECK(run("BEGIN IMMEDIATE"));
    Status status = work();
    if (status) {
      status = run("COMMIT");
    }
    if (!status) {
      // What went wrong is known already; a transaction that cannot be rolled back has been.
      (void)::sqlite3_exec(handle_, "ROLLBACK", nullptr, nullptr, nullptr);
    }
    return status;
  }

  tl::unexpected<base::Error> failed(const char* doing) const {
    const int code = ::sqlite3_extended_errcode(handle_) & 0xff;
    const std::string what =
        std::string(doing) + " the registry '" + path_ + "': " + ::sqlite3_errmsg(handle_);
    switch (code) {
      case SQLITE_NOTADB:
      case SQLITE_CORRUPT:
        return damaged(what);
      case SQLITE_BUSY:
      case SQLITE_LOCKED:
        return fail_because(what,
                            "another agent has it open: stop that one, or give this one a "
                            "state directory of its own");
      case SQLITE_FULL:
        return fail_because(what, "the disk is full");
      default:
        return fail_because(what);
    }
  }

  tl::unexpected<base::Error> damaged(const std::string& what) const {
    return fail_because(what,
                        "the file is damaged or no registry: restore it from a backup, or "
                        "move it and its -wal away to begin without functions");
  }

  const std::string& path() const { return path_; }

 private:
  Result<std::int64_t> pragma(const char* sql) {
    Statement statement(handle_, sql);
    if (statement.step() != SQLITE_ROW) {
      return failed("read");
    }
    return statement.number();
  }

  // Before anything is written: a file that is somebody else's stays as it is.
  Status check_owner() {
    BROOD_TRY(const std::int64_t id, pragma("PRAGMA application_id"));
    BROOD_TRY(const std::int64_t tables, pragma("SELECT count(*) FROM sqlite_schema"));
    if (id != kApplicationId && (id != 0 || tables != 0)) {
      return damaged("'" + path_ + "' is a database, but not brood's");
    }
    BROOD_TRY(const std::int64_t form, pragma("PRAGMA user_version"));
    if (form > static_cast<std::int64_t>(kMigrations.size())) {
      return fail_because("the registry '" + path_ + "' has form " + std::to_string(form) +
                              ", this brood knows forms up to " +
                              std::to_string(kMigrations.size()),
                          "a newer brood has written it: start that one");
    }
    return {};
  }

  Status check_sound() {
    Statement statement(handle_, "PRAGMA quick_check(1)");
    if (statement.step() != SQLITE_ROW) {
      return failed("check");
    }
    const std::string verdict = statement.text();
    return verdict == "ok" ? Status{}
                           : damaged("the registry '" + path_ + "' is unsound: " + verdict);
  }

  Status migrate() {
    BROOD_TRY(const std::int64_t form, pragma("PRAGMA user_version"));
    for (auto step = static_cast<std::size_t>(form); step < kMigrations.size(); ++step) {
      BROOD_CHECK(run(kMigrations[step]));
    }
    BROOD_CHECK(run(("PRAGMA user_version=" + std::to_string(kMigrations.size())).c_str()));
    return run(("PRAGMA application_id=" + std::to_string(kApplicationId)).c_str());
  }

  const std::string path_;
  sqlite3* handle_ = nullptr;
};

Registry::Registry(std::unique_ptr<Database> database) : database_(std::move(database)) {}
Registry::Registry(Registry&&) noexcept = default;
Registry& Registry::operator=(Registry&&) noexcept = default;
Registry::~Registry() = default;

Result<Registry> Registry::open(const std::string& path) {
  auto database = std::make_unique<Database>(path);
  BROOD_CHECK(database->open());
  return Registry(std::move(database));
}

Result<std::vector<Function>> Registry::load_all() const {
  Statement row(database_->handle(), kSelect);
  std::vector<Function> functions;
  for (;;) {
    switch (row.step()) {
      case SQLITE_DONE:
        return functions;
      case SQLITE_ROW:
        if (!read_function(row, functions.emplace_back())) {
          return database_->damaged("the registry '" + database_->path() +
                                    "' holds values out of range for the function '" +
                                    functions.back().name + "'");
        }
        break;
      default:
        return database_->failed("read");
    }
  }
}

Result<Function> Registry::put(Function function) {
  BROOD_CHECK(database_->in_transaction([&] { return database_->put(function); }));
  return function;
}

Result<Registry::Removed> Registry::remove(std::string_view name) {
  Statement statement(database_->handle(), "DELETE FROM functions WHERE name = ?");
  BROOD_CHECK(database_->finish(statement.bind(name)));
  return ::sqlite3_changes(database_->handle()) > 0 ? Removed::yes : Removed::was_not_there;
}

Result<std::vector<std::string>> Registry::load_commands() const {
  Statement row(database_->handle(), "SELECT record FROM commands ORDER BY id");
  std::vector<std::string> records;
  int got = row.step();
  for (; got == SQLITE_ROW; got = row.step()) {
    row.next_row();
    records.push_back(row.text());
  }
  if (got != SQLITE_DONE) {
    return database_->failed("read");
  }
  return records;
}

Status Registry::put_command(const std::string& id, const std::string& record) {
  Statement statement(database_->handle(),
                      "INSERT OR REPLACE INTO commands (id, record) VALUES (?, ?)");
  return database_->finish(statement.bind(id).bind(record));
}

Status Registry::remove_command(const std::string& id) {
  Statement statement(database_->handle(), "DELETE FROM commands WHERE id = ?");
  return database_->finish(statement.bind(id));
}

Result<std::vector<Layer>> Registry::load_layers() const {
  Statement row(database_->handle(),
                "SELECT name, digest, published_at_ms FROM layers ORDER BY name");
  std::vector<Layer> layers;
  int got = row.step();
  for (; got == SQLITE_ROW; got = row.step()) {
    row.next_row();
    Layer& layer = layers.emplace_back();
    layer.name = row.text();
    layer.digest = row.text();
    layer.published_at_ms = row.number();
  }
  if (got != SQLITE_DONE) {
    return database_->failed("read");
  }
  return layers;
}

Status Registry::put_layer(const Layer& layer) {
  Statement statement(
      database_->handle(),
      "INSERT OR REPLACE INTO layers (name, digest, published_at_ms) VALUES (?, ?, ?)");
  return database_->finish(
      statement.bind(layer.name).bind(layer.digest).bind(layer.published_at_ms));
}

Status Registry::remove_layer(const std::string& name) {
  Statement statement(database_->handle(), "DELETE FROM layers WHERE name = ?");
  return database_->finish(statement.bind(name));
}

Result<std::set<std::string>> Registry::code_in_use() const {
  Statement row(database_->handle(),
                "SELECT code_digest FROM functions UNION SELECT digest FROM layers UNION"
                " SELECT value FROM functions, json_each(functions.layer_digests)");
  std::set<std::string> digests;
  int got = row.step();
  for (; got == SQLITE_ROW; got = row.step()) {
    row.next_row();
    digests.insert(row.text());
  }
  if (got != SQLITE_DONE) {
    return database_->failed("read");
  }
  return digests;
}

}  // namespace agent
