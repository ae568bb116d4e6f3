#include "cmd/names_server.h"

#include <sys/random.h>

#include <algorithm>
#include <boost/asio/buffer.hpp>

namespace cmd {
namespace {

namespace asio = boost::asio;
using asio::ip::udp;
using Code = boost::system::error_code;
using Clock = std::chrono::steady_clock;

constexpr DnsAnswer failed() {
  return {.code = DnsCode::server_failure, .addresses = {}, .seconds = 0};
}

}  // namespace

void NamesServer::serve(int socket) {
  Code ignored;
  socket_.close(ignored);
  socket_.assign(udp::v4(), socket, ignored);
  socket_.non_blocking(true, ignored);
  receive();
  end_old_later();
}

void NamesServer::receive() {
  socket_.async_receive_from(asio::buffer(piece_), from_,
                             [this](const Code& error, std::size_t got) {
                               if (error == asio::error::operation_aborted) {
                                 return;
                               }
                               if (!error) {
                                 take({piece_.data(), got});
                               }
                               receive();
                             });
}

// The addresses of names of the list are asked for; of all else that is known of such a name
// nothing is told, and of another name that it does not exist.
void NamesServer::take(std::string_view bytes) {
  auto question = parse_dns_question(bytes);
  if (!question) {
    return;
  }
  const bool listed = question->internet &&
                      std::any_of(list_.begin(), list_.end(), [&](const netns::NamePattern& one) {
                        return netns::matches(one, question->name);
                      });
  if (!listed) {
    return reply(from_, *question, {.code = DnsCode::no_such_name, .addresses = {}, .seconds = 0});
  }
  if (question->type != kDnsA && question->type != kDnsAaaa) {
    return reply(from_, *question, {.code = DnsCode::none, .addresses = {}, .seconds = 0});
  }
  ask(std::move(*question));
}

// A socket each, so that whoever wants to forge an answer has to guess its port, too.
void NamesServer::ask(DnsQuestion question) {
  if (!resolver_) {
    return reply(from_, question, failed());
  }
  std::size_t& has = of_one_[from_.address()];
  if (under_.size() >= kMostQuestions || has >= kMostOfOne) {
    if (has == 0) {
      of_one_.erase(from_.address());
    }
    return;
  }
  const auto under = std::make_shared<Under>(loop_, std::move(question), from_);
  under->number = ++last_;
  under->ends = Clock::now() + kQuestionLasts;
  if (::getrandom(&under->id, sizeof under->id, 0) != sizeof under->id || !send_on(*under)) {
    if (has == 0) {
      of_one_.erase(from_.address());
    }
    return reply(from_, under->question, failed());
  }
  ++has;
  under_.emplace(under->number, under);
  hear(under);
}

bool NamesServer::send_on(Under& under) {
  Code error;
  under.upstream.open(resolver_->protocol(), error);
  if (!error) {
    under.upstream.connect(*resolver_, error);
  }
  if (!error) {
    under.upstream.non_blocking(true, error);
  }
  if (!error) {
    under.upstream.send(asio::buffer(dns_query(under.id, under.question.name, under.question.type)),
                        0, error);
  }
  return !error;
}

void NamesServer::hear(const std::shared_ptr<Under>& under) {
  under->upstream.async_wait(udp::socket::wait_read, [this, under](const Code& error) {
    if (error || !under_.contains(under->number)) {
      return;
    }
    Code failure;
    const std::size_t got = under->upstream.receive(asio::buffer(back_), 0, failure);
    if (failure == asio::error::would_block) {
      return hear(under);
    }
    if (failure) {  // nobody is there
      return finish(under->number, failed());
    }
    auto answer = parse_dns_answer({back_.data(), got}, under->id, under->question.name,
                                   under->question.type);
    answer ? learn(under, std::move(*answer)) : hear(under);
  });
}

void NamesServer::learn(const std::shared_ptr<Under>& under, DnsAnswer answer) {
  Code ignored;
  under->upstream.close(ignored);
  if (answer.addresses.empty()) {
    return finish(under->number, answer);
  }
  under->answer = std::move(answer);
  under->reported = true;
  if (!report_(under->number, under->question.name, under->answer)) {
    finish(under->number, failed());
  }
}

void NamesServer::decide(std::uint64_t question, bool good) {
  if (const auto found = under_.find(question); found != under_.end() && found->second->reported) {
    finish(question, good ? found->second->answer : failed());
  }
}

void NamesServer::finish(std::uint64_t number, const DnsAnswer& answer) {
  const auto under = under_.extract(number);
  if (under.empty()) {
    return;
  }
  const Under& ended = *under.mapped();
  reply(ended.client, ended.question, answer);
  if (const auto has = of_one_.find(ended.client.address());
      has != of_one_.end() && --has->second == 0) {
    of_one_.erase(has);
  }
  Code ignored;
  under.mapped()->upstream.close(ignored);
}

void NamesServer::reply(const udp::endpoint& client, const DnsQuestion& question,
                        const DnsAnswer& answer) {
  Code ignored;
  socket_.send_to(asio::buffer(dns_reply(question, answer)), client, 0, ignored);
}

void NamesServer::end_old_later() {
  timer_.expires_after(std::chrono::milliseconds(250));
  timer_.async_wait([this](const Code& error) {
    if (error) {
      return;
    }
    const auto now = Clock::now();
    while (!under_.empty() && under_.begin()->second->ends <= now) {
      finish(under_.begin()->first, failed());
    }
    end_old_later();
  });
}

}  // namespace cmd
