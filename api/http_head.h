// What of a request's head the server goes by. Every byte of it is hostile.
#pragma once

#include <boost/asio/buffer.hpp>
#include <boost/beast/core/buffers_range.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "api/handlers.h"
#include "api/router.h"

namespace api {

// Where a chunked body's pieces go.
class BodyTarget {
 public:
  virtual ~BodyTarget() = default;
  // False when the body is larger than it may be.
  virtual bool take(std::string_view bytes) = 0;
};

// A Beast body that keeps nothing.
struct TargetBody {
  using value_type = BodyTarget*;

  class reader {
   public:
    template <bool isRequest, class Fields>
    reader(boost::beast::http::header<isRequest, Fields>&, value_type& target) : target_(target) {}
    void init(const boost::optional<std::uint64_t>&, boost::system::error_code& ec) { ec = {}; }
    template <class Buffers>
    std::size_t put(const Buffers& buffers, boost::system::error_code& ec) {
      std::size_t size = 0;
      for (const boost::asio::const_buffer buffer : boost::beast::buffers_range(buffers)) {
        if (!target_->take({static_cast<const char*>(buffer.data()), buffer.size()})) {
          ec = boost::beast::http::error::body_limit;
          return size;
        }
        size += buffer.size();
      }
      ec = {};
      return size;
    }
    void finish(boost::system::error_code& ec) { ec = {}; }

   private:
    BodyTarget*& target_;
  };
};

using Parser = boost::beast::http::request_parser<TargetBody>;

// What of a head is needed, found in one pass. The views live as long as the parser.
struct Head {
  std::string_view content_type;
  std::string_view file_name;
  std::string_view api_version;
  std::string_view transfer_encoding;
  std::string_view expect;
  std::string_view descriptors;
  int hosts = 0;
};
Head read_head(const Parser& parser);

std::string_view view(boost::beast::string_view text);

// Beyond what Beast checks: anything that two readers of one message could frame differently.
std::optional<Refusal> check_head(const Parser& parser, const Head& head);

Refusal bad_request(std::string message);
// Of an error while the head was read.
Refusal refusal_of(boost::system::error_code error);
Refusal too_large(BodyUse use, std::uint64_t limit);

// How many descriptors are to come with the body; nothing where that cannot be.
std::optional<std::size_t> descriptor_count(std::string_view text);

}  // namespace api
