// The local verbs, at home.
#include "cmd/cli/verbs.h"

namespace cli {

void add_local(CLI::App& app, Session& session) {
  add_deploy(app, session);
  add_check(app, session);
  add_image(app, session);
  add_runtime(app, session);
  add_layer(app, session);
}

}  // namespace cli
