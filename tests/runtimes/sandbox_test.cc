// sandbox.py's loop in an ordinary process, driven over a socket pair by the agent's own protocol.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <string>

#include "base/file.h"
#include "tests/runtimes/python_process.h"
#include "tests/support/scratch.h"

using agent::Frame;
using Catch::Contains;

namespace {

class Sandbox {
 public:
  // `source` is handler.py; empty: there is none.
  explicit Sandbox(const std::string& source) {
    if (!source.empty()) {
      write("handler.py", source);
    }
  }

  void write(const std::string& name, const std::string& text) {
    REQUIRE(base::replace_file_at(code_.fd(), name, text, 0644));
  }
  std::string path(const std::string& name) const { return code_.path() + "/" + name; }

  void start() {
    const base::UniqueFd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    tests::Pair conn = tests::socket_pair(SOCK_STREAM);
    tests::Pair output = tests::pipe_pair();
    python_ = tests::start_python(
        {BROOD_PYTHON_DRIVERS "/serve.py", BROOD_PYTHON_SUPPORT, code_.path()},
        {null.get(), output.theirs.get(), output.theirs.get(), conn.theirs.get()});
    output_ = std::move(output.ours);
    conn_.emplace(std::move(conn.ours));
    CHECK(conn_->next().kind == BROOD_FRAME_READY);
  }

  agent::BindRequest bind_request() const {
    return {
        .function = "f",
        .handler = "handler.main",
        .environment = {},
        .code = {},
        .limits = {.memory_bytes = 64 << 20, .response_bytes = 1 << 20, .pids = 9, .version = 3}};
  }

  // Binds and invokes in one write, as the agent does; the frame that answers.
  Frame cold(const agent::BindRequest& bind, const std::string& json) {
    REQUIRE(gather_.bind(bind));
    add_invocation(json, BROOD_FLAG_JSON, "application/json");
    conn_->send(gather_);
    Frame frame = conn_->next();
    if (frame.kind == BROOD_FRAME_LOADED) {
      frame = conn_->next();
    }
    return frame;
  }
  Frame cold(const std::string& json) {
    start();
    return cold(bind_request(), json);
  }
  Frame warm(const std::string& payload, std::uint32_t flags = BROOD_FLAG_JSON,
             const std::string& type = "application/json") {
    add_invocation(payload, flags, type);
    conn_->send(gather_);
    return conn_->next();
  }

  std::string output() {
    return tests::read_until_quiet(output_.get(), std::chrono::milliseconds(50));
  }
  base::ProcessEnd end() {
    conn_->close();
    return python_.wait().value();
  }
  tests::Conn& conn() { return *conn_; }
  agent::Gather& gather() { return gather_; }
  base::OwnedPid& python() { return python_; }

 private:
  void add_invocation(const std::string& payload, std::uint32_t flags, const std::string& type) {
    payload_ = payload;
    type_ = type;
    REQUIRE(gather_.invoke({.invocation = ++invocation_,
                            .deadline_ns = 1LL << 62,
                            .id = "0123456789abcdef",
                            .content_type = type_,
                            .payload = payload_,
                            .flags = flags}));
  }

  tests::ScratchDirectory code_;
  agent::Gather gather_;
  std::string payload_;
  std::string type_;
  std::uint64_t invocation_ = 40;
  base::UniqueFd output_;
  std::optional<tests::Conn> conn_;
  base::OwnedPid python_;
};

const std::string& body(const Frame& frame) {
  INFO(frame.parts[1] << "\n" << frame.parts[2]);
  REQUIRE(frame.kind == BROOD_FRAME_RESULT);
  REQUIRE_FALSE(frame.is_error());
  return frame.parts[BROOD_RESULT_BODY];
}

const std::string& error_type(const Frame& frame) {
  INFO(frame.parts[1]);
  REQUIRE(frame.kind == BROOD_FRAME_RESULT);
  REQUIRE(frame.is_error());
  return frame.parts[BROOD_ERROR_TYPE];
}

}  // namespace

TEST_CASE("a handler gets its event and context, and its value comes back as JSON") {
  Sandbox sandbox(
      "def main(event, context):\n"
      "    return [event, context.id, context.function, context.function_version,\n"
      "            context.memory_limit, context.memory_limit_mb, context.content_type,\n"
      "            context.remaining_ms() > 1000, context.deadline > 0]\n");
  const Frame frame = sandbox.cold(R"({"a":[1,2.5,null,"é"]})");
  CHECK(
      body(frame) ==
      R"([{"a":[1,2.5,null,"é"]},"0123456789abcdef","f",3,67108864,64,"application/json",true,true])");
  CHECK(frame.flags == BROOD_FLAG_JSON);
  CHECK(frame.invocation == 41);
  CHECK(frame.parts[BROOD_RESULT_CONTENT_TYPE] == "application/json");
}

TEST_CASE("the stages of a cold and a warm call are in order") {
  Sandbox sandbox("def main(event, context):\n    return 1\n");
  const Frame cold = sandbox.cold("1");
  CHECK(cold.stage_ns[0] > 0);
  for (int i = 1; i < 5; ++i) {
    CHECK(cold.stage_ns[i] >= cold.stage_ns[i - 1]);
  }
  const Frame warm = sandbox.warm("1");
  CHECK(warm.stage_ns[0] > cold.stage_ns[4]);
  CHECK(warm.stage_ns[1] == 0);  // nothing was loaded
  CHECK(warm.stage_ns[2] >= warm.stage_ns[0]);
}

TEST_CASE("bytes come and go as bytes") {
  Sandbox sandbox("def main(event, context):\n    return memoryview(event[::-1])\n");
  REQUIRE_FALSE(sandbox.cold("[]").kind == BROOD_FRAME_READY);
  const std::string large(3'000'000, 'x');
  const Frame frame = sandbox.warm("abc", 0, "image/png");
  CHECK(body(frame) == "cba");
  CHECK(frame.flags == 0);
  CHECK(frame.parts[BROOD_RESULT_CONTENT_TYPE] == "application/octet-stream");
  CHECK(error_type(sandbox.warm(large, 0, "a/b")) == "ResponseTooLarge");
}

TEST_CASE("a payload larger than every buffer arrives whole") {
  Sandbox sandbox(
      "import hashlib\n"
      "def main(event, context):\n"
      "    return [len(event), event.count(b'y')]\n");
  sandbox.cold("[]");
  std::string large(3'000'001, 'x');
  large.back() = 'y';
  CHECK(body(sandbox.warm(large, 0, "a/b")) == "[3000001,1]");
}

TEST_CASE("an empty JSON payload is None, None is null, a string is JSON") {
  Sandbox sandbox("def main(event, context):\n    return event\n");
  CHECK(body(sandbox.cold("")) == "null");
  CHECK(body(sandbox.warm("\"a\\ud800b\"")) == "\"a\\ud800b\"");
}

TEST_CASE("a payload that is not JSON never reaches the handler") {
  Sandbox sandbox("def main(event, context):\n    print('called')\n");
  for (const std::string& payload : {std::string("{"), std::string("NaN"), std::string("\"\xff\""),
                                     std::string(100'000, '['), std::string("1 2")}) {
    const Frame frame = payload == "{" ? sandbox.cold(payload) : sandbox.warm(payload);
    CHECK(error_type(frame) == "InvalidJSON");
    CHECK(frame.flags == BROOD_FLAG_ERROR);
    CHECK(frame.stage_ns[2] == 0);  // not called
  }
  CHECK(sandbox.output().empty());
}

TEST_CASE("an exception comes with its type, its message and a trace of the handler's own lines") {
  Sandbox sandbox(
      "def inner(n):\n"
      "    raise KeyError('no %d' % n)  # here\n"
      "def main(event, context):\n"
      "    try:\n"
      "        inner(event)\n"
      "    except KeyError as error:\n"
      "        raise ValueError('bad event') from error\n");
  const Frame frame = sandbox.cold("7");
  CHECK(error_type(frame) == "ValueError");
  CHECK(frame.flags == BROOD_FLAG_ERROR);
  CHECK(frame.parts[BROOD_ERROR_MESSAGE] == "bad event");
  const std::string& trace = frame.parts[BROOD_ERROR_TRACE];
  CHECK_THAT(trace, Contains(sandbox.path("handler.py") + "\", line 7, in main"));
  CHECK_THAT(trace, Contains("raise KeyError('no %d' % n)  # here"));
  CHECK_THAT(trace, Contains("The above exception was the direct cause"));
  CHECK_THAT(trace, !Contains("sandbox.py"));
  CHECK(error_type(sandbox.warm("8")) == "ValueError");  // and it goes on
}

TEST_CASE("what leaves a program by exception does not leave the sandbox") {
  Sandbox sandbox(
      "import sys\n"
      "def main(event, context):\n"
      "    if event == 'exit': sys.exit('bye')\n"
      "    if event == 'interrupt': raise KeyboardInterrupt\n"
      "    if event == 'memory': return bytearray(1 << 62)\n"
      "    if event == 'recursion': return main(event, context)\n"
      "    if event == 'broken':\n"
      "        class Broken(Exception):\n"
      "            def __str__(self): raise SystemExit(3)\n"
      "        raise Broken()\n"
      "    return 'alive'\n");
  Frame frame = sandbox.cold("\"exit\"");
  CHECK(error_type(frame) == "SystemExit");
  CHECK(frame.parts[BROOD_ERROR_MESSAGE] == "bye");
  CHECK(error_type(sandbox.warm("\"interrupt\"")) == "KeyboardInterrupt");
  frame = sandbox.warm("\"memory\"");
  CHECK(error_type(frame) == "MemoryError");
  CHECK(frame.flags == (BROOD_FLAG_ERROR | BROOD_FLAG_MEMORY));
  frame = sandbox.warm("\"recursion\"");
  CHECK(error_type(frame) == "RecursionError");
  CHECK_THAT(frame.parts[BROOD_ERROR_TRACE], Contains("Previous line repeated"));
  CHECK(error_type(sandbox.warm("\"broken\"")) == "Exception");
  CHECK(body(sandbox.warm("\"\"")) == "\"alive\"");
}

TEST_CASE("a module that fails to load is an init error, and its handler is never called") {
  Sandbox sandbox(
      "import json\n"
      "raise RuntimeError('at import')\n"
      "def main(event, context):\n"
      "    return 1\n");
  const Frame frame = sandbox.cold("1");
  CHECK(error_type(frame) == "RuntimeError");
  CHECK(frame.flags == (BROOD_FLAG_ERROR | BROOD_FLAG_INIT));
  CHECK(frame.invocation == 41);
  CHECK_THAT(frame.parts[BROOD_ERROR_TRACE], Contains("line 2, in <module>"));
  CHECK_THAT(frame.parts[BROOD_ERROR_TRACE], !Contains("importlib"));
  CHECK(frame.stage_ns[2] == 0);
}

TEST_CASE("a missing module, a missing function and a syntax error are told apart") {
  SECTION("module") {
    Sandbox sandbox("");
    const Frame frame = sandbox.cold("1");
    CHECK(error_type(frame) == "ModuleNotFoundError");
    CHECK((frame.flags & BROOD_FLAG_INIT) != 0);
  }
  SECTION("function") {
    Sandbox sandbox("mein = 1\n");
    const Frame frame = sandbox.cold("1");
    CHECK(error_type(frame) == "HandlerNotFound");
    CHECK(frame.parts[BROOD_ERROR_MESSAGE] ==
          "module 'handler' has no function 'main' (the handler is 'handler.main')");
  }
  SECTION("syntax") {
    Sandbox sandbox("def main(:\n");
    const Frame frame = sandbox.cold("1");
    CHECK(error_type(frame) == "SyntaxError");
    CHECK_THAT(frame.parts[BROOD_ERROR_TRACE], Contains("handler.py\", line 1"));
  }
  SECTION("prepared code that is none") {
    Sandbox sandbox("x = 1\n");
    sandbox.start();
    agent::BindRequest bind = sandbox.bind_request();
    bind.code = "not marshal";
    CHECK((sandbox.cold(bind, "1").flags & BROOD_FLAG_INIT) != 0);
  }
}

TEST_CASE("what is no JSON is the handler's error and names the type") {
  Sandbox sandbox("def main(event, context):\n    return {1, 2} if event else float('nan')\n");
  const Frame frame = sandbox.cold("1");
  CHECK(error_type(frame) == "TypeError");
  CHECK_THAT(frame.parts[BROOD_ERROR_MESSAGE], Contains("set is not JSON serializable"));
  CHECK(error_type(sandbox.warm("0")) == "ValueError");
}

TEST_CASE("an answer over the limit is told, not sent, and one at the limit is sent") {
  Sandbox sandbox("def main(event, context):\n    return b'x' * event\n");
  const Frame frame = sandbox.cold("1048577");
  CHECK(error_type(frame) == "ResponseTooLarge");
  CHECK(frame.flags == (BROOD_FLAG_ERROR | BROOD_FLAG_TOO_LARGE));
  CHECK(frame.parts[BROOD_ERROR_MESSAGE] ==
        "the answer is 1048577 bytes long, over the limit of 1048576 bytes");
  CHECK(body(sandbox.warm("1048576")).size() == 1 << 20);
}

TEST_CASE("the environment is the base, brood's and the function's, and nothing else") {
  Sandbox sandbox(
      "import os, subprocess\n"
      "def main(event, context):\n"
      "    return [dict(sorted(os.environ.items())), "
      "subprocess.check_output(['env']).decode().count('\\n')]\n");
  ::setenv("LEAKED_FROM_THE_AGENT", "1", 1);
  sandbox.start();
  agent::BindRequest bind = sandbox.bind_request();
  bind.environment = std::string_view("KEY=a=b\0EMPTY=\0HOME=/home\0", 26);
  CHECK(body(sandbox.cold(bind, "1")) ==
        R"([{"BROOD_FUNCTION":"f","BROOD_FUNCTION_VERSION":"3","BROOD_MEMORY_BYTES":"67108864",)"
        R"("EMPTY":"","HOME":"/home","KEY":"a=b","LANG":"C.UTF-8",)"
        R"("PATH":"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",)"
        R"("TMPDIR":"/tmp"},9])");
}

TEST_CASE("a handler's module is one that was imported, with prepared code and without") {
  const std::string source =
      "import dataclasses, importlib, os, pickle, sys\n"
      "import sibling\n"
      "@dataclasses.dataclass\n"
      "class Point:\n"
      "    x: int\n"
      "def main(event, context):\n"
      "    point = pickle.loads(pickle.dumps(Point(4)))\n"
      "    module = sys.modules['handler']\n"
      "    return [point.x, __name__, os.path.basename(__file__), module is "
      "importlib.reload(module),\n"
      "            sibling.VALUE, __spec__.name, __package__, sys.path[0] == "
      "os.path.dirname(__file__)]\n";
  Sandbox sandbox(source);
  sandbox.write("sibling.py", "VALUE = 'sibling'\n");
  sandbox.start();
  agent::BindRequest bind = sandbox.bind_request();
  std::string code;
  SECTION("prepared") {
    code = tests::marshalled(source, sandbox.path("handler.py"));
    bind.code = code;
  }
  SECTION("imported") {}
  CHECK(body(sandbox.cold(bind, "1")) ==
        R"([4,"handler","handler.py",true,"sibling","handler","",true])");
}

TEST_CASE("a handler in a package imports its neighbours, with prepared code and without") {
  const std::string source =
      "from . import tools\n"
      "from .tools import twice\n"
      "def main(event, context):\n"
      "    return [twice(event), __package__, tools.__name__]\n";
  Sandbox sandbox("");
  ::mkdir(sandbox.path("pkg").c_str(), 0755);
  sandbox.write("pkg/__init__.py", "");
  sandbox.write("pkg/tools.py", "def twice(n): return 2 * n\n");
  sandbox.write("pkg/entry.py", source);
  sandbox.start();
  agent::BindRequest bind = sandbox.bind_request();
  bind.handler = "pkg.entry.main";
  std::string code;
  SECTION("prepared") {
    code = tests::marshalled(source, sandbox.path("pkg/entry.py"));
    bind.code = code;
  }
  SECTION("imported") {}
  CHECK(body(sandbox.cold(bind, "21")) == R"([42,"pkg","pkg.tools"])");
}

TEST_CASE("libraries beside the code in site-packages can be imported") {
  Sandbox sandbox("import bundled\ndef main(event, context):\n    return bundled.NAME\n");
  ::mkdir(sandbox.path("site-packages").c_str(), 0755);
  sandbox.write("site-packages/bundled.py", "NAME = 'bundled'\n");
  CHECK(body(sandbox.cold("1")) == "\"bundled\"");
}

TEST_CASE("a module of the function may have the name of one of brood's") {
  Sandbox sandbox(
      "import sandbox, zygote\ndef main(event, context):\n    return [sandbox.X, zygote.X]\n");
  sandbox.write("sandbox.py", "X = 1\n");
  sandbox.write("zygote.py", "X = 2\n");
  CHECK(body(sandbox.cold("1")) == "[1,2]");
}

TEST_CASE("what is printed is out before the answer is") {
  Sandbox sandbox(
      "import sys\n"
      "def main(event, context):\n"
      "    sys.stdout.write('no newline \\ud800')\n"
      "    print('to stderr', file=sys.stderr)\n");
  sandbox.cold("1");
  const std::string output = sandbox.output();
  CHECK_THAT(output, Contains("no newline \\ud800"));
  CHECK_THAT(output, Contains("to stderr\n"));
}

TEST_CASE("a coroutine function is run to its end") {
  Sandbox sandbox(
      "import asyncio\n"
      "async def main(event, context):\n"
      "    await asyncio.sleep(0)\n"
      "    return 'async'\n");
  CHECK(body(sandbox.cold("1")) == "\"async\"");
  CHECK(body(sandbox.warm("1")) == "\"async\"");
}

TEST_CASE("a handler that closes its streams still answers") {
  Sandbox sandbox("import sys\ndef main(event, context):\n    sys.stdout.close()\n    return 1\n");
  CHECK(body(sandbox.cold("1")) == "1");
  CHECK(body(sandbox.warm("1")) == "1");
}

TEST_CASE("soft limits hold memory where cgroups cannot") {
  Sandbox sandbox(
      "import resource\n"
      "def main(event, context):\n"
      "    return [resource.getrlimit(resource.RLIMIT_DATA)[0],\n"
      "            resource.getrlimit(resource.RLIMIT_NPROC)[0]]\n");
  sandbox.start();
  agent::BindRequest bind = sandbox.bind_request();
  bind.soft_limits = agent::SoftLimits::wanted;
  CHECK(body(sandbox.cold(bind, "1")) == "[67108864,9]");
}

TEST_CASE("a sandbox refuses to be bound again, and leaves") {
  Sandbox sandbox("def main(event, context):\n    return 1\n");
  sandbox.cold("1");
  REQUIRE(sandbox.gather().bind(sandbox.bind_request()));
  sandbox.conn().send(sandbox.gather());
  CHECK(sandbox.conn().closed());
  CHECK(sandbox.end().exited_with(2));
}

TEST_CASE("a sandbox leaves when the agent closes") {
  Sandbox sandbox("def main(event, context):\n    return 1\n");
  sandbox.cold("1");
  CHECK(sandbox.end().exited_with(0));
}

TEST_CASE("a file is compiled without being run, and its code binds") {
  const std::string source =
      "print('executed')\n"
      "def main(event, context):\n"
      "    return __file__\n";
  Sandbox compiler(source);
  compiler.start();
  REQUIRE(compiler.gather().compile(5, "handler.py"));
  compiler.conn().send(compiler.gather());
  const Frame compiled = compiler.conn().next();
  REQUIRE(compiled.kind == BROOD_FRAME_COMPILED);
  REQUIRE_FALSE(compiled.is_error());
  CHECK(compiled.invocation == 5);
  CHECK(compiler.output().empty());

  agent::BindRequest bind = compiler.bind_request();
  bind.code = compiled.parts[0];
  CHECK(body(compiler.cold(bind, "1")) == "\"" + compiler.path("handler.py") + "\"");
}

TEST_CASE("a file that does not compile says where") {
  Sandbox sandbox("x = 1\ndef main(event, context)\n    return 1\n");
  sandbox.start();
  for (const char* path : {"handler.py", "missing.py"}) {
    REQUIRE(sandbox.gather().compile(6, path));
    sandbox.conn().send(sandbox.gather());
    const Frame frame = sandbox.conn().next();
    REQUIRE(frame.kind == BROOD_FRAME_COMPILED);
    REQUIRE(frame.is_error());
    if (path == std::string("handler.py")) {
      CHECK(frame.parts[BROOD_ERROR_TYPE] == "SyntaxError");
      CHECK_THAT(frame.parts[BROOD_ERROR_TRACE], Contains("line 2"));
    } else {
      CHECK(frame.parts[BROOD_ERROR_TYPE] == "FileNotFoundError");
    }
  }
}
