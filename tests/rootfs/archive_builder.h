// Archives as no honest tool would write them.
#pragma once

#include <archive.h>
#include <archive_entry.h>

#include <cstdint>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>

namespace tests {

// Writes with libarchive, in any format and filter it knows.
class ArchiveBuilder {
 public:
  explicit ArchiveBuilder(int format = ARCHIVE_FORMAT_TAR_PAX_RESTRICTED,
                          int filter = ARCHIVE_FILTER_NONE, const char* options = nullptr)
      : archive_(::archive_write_new()) {
    check(::archive_write_set_format(archive_.get(), format));
    check(::archive_write_add_filter(archive_.get(), filter));
    if (options != nullptr) {
      check(::archive_write_set_options(archive_.get(), options));
    }
    ::archive_write_set_passphrase(archive_.get(), "secret");
    check(::archive_write_set_bytes_in_last_block(archive_.get(), 1));
    check(::archive_write_open2(archive_.get(), &bytes_, nullptr, &append, nullptr, nullptr));
  }

  ArchiveBuilder& file(const std::string& path, std::string_view text = "x", int mode = 0644) {
    const Entry entry = make(path, AE_IFREG, mode);
    ::archive_entry_set_size(entry.get(), static_cast<la_int64_t>(text.size()));
    return add(entry, text);
  }
  ArchiveBuilder& directory(const std::string& path, int mode = 0755) {
    return add(make(path, AE_IFDIR, mode), {});
  }
  ArchiveBuilder& link(const std::string& path, const std::string& target) {
    const Entry entry = make(path, AE_IFLNK, 0777);
    ::archive_entry_copy_symlink(entry.get(), target.c_str());
    return add(entry, {});
  }
  ArchiveBuilder& hard_link(const std::string& path, const std::string& target) {
    const Entry entry = make(path, AE_IFREG, 0644);
    ::archive_entry_copy_hardlink(entry.get(), target.c_str());
    return add(entry, {});
  }
  ArchiveBuilder& special(const std::string& path, unsigned type) {
    const Entry entry = make(path, type, 0666);
    ::archive_entry_set_rdevmajor(entry.get(), 1);
    ::archive_entry_set_rdevminor(entry.get(), 3);
    return add(entry, {});
  }
  // Many zeros without holding them.
  ArchiveBuilder& zeros(const std::string& path, std::int64_t size) {
    const Entry entry = make(path, AE_IFREG, 0644);
    ::archive_entry_set_size(entry.get(), size);
    check(::archive_write_header(archive_.get(), entry.get()));
    const std::string piece(1 << 20, '\0');
    for (std::int64_t left = size; left > 0; left -= static_cast<std::int64_t>(piece.size())) {
      ::archive_write_data(archive_.get(), piece.data(), piece.size());
    }
    return *this;
  }

  std::string finish() {
    check(::archive_write_close(archive_.get()));
    return bytes_;
  }

 private:
  struct Free {
    void operator()(archive* a) const { ::archive_write_free(a); }
    void operator()(archive_entry* e) const { ::archive_entry_free(e); }
  };
  using Entry = std::unique_ptr<archive_entry, Free>;

  static Entry make(const std::string& path, unsigned type, int mode) {
    Entry entry(::archive_entry_new());
    ::archive_entry_copy_pathname(entry.get(), path.c_str());
    ::archive_entry_set_filetype(entry.get(), type);
    ::archive_entry_set_perm(entry.get(), static_cast<__LA_MODE_T>(mode));
    ::archive_entry_set_size(entry.get(), 0);
    return entry;
  }
  ArchiveBuilder& add(const Entry& entry, std::string_view text) {
    check(::archive_write_header(archive_.get(), entry.get()));
    if (!text.empty() && ::archive_write_data(archive_.get(), text.data(), text.size()) !=
                             static_cast<la_ssize_t>(text.size())) {
      throw std::runtime_error("archive_write_data");
    }
    return *this;
  }
  void check(int got) {
    if (got < ARCHIVE_WARN) {
      throw std::runtime_error(::archive_error_string(archive_.get()));
    }
  }
  static la_ssize_t append(archive*, void* to, const void* bytes, std::size_t size) {
    static_cast<std::string*>(to)->append(static_cast<const char*>(bytes), size);
    return static_cast<la_ssize_t>(size);
  }

  std::string bytes_;
  std::unique_ptr<archive, Free> archive_;
};

// One ustar header, field by field; the body is the caller's.
inline std::string raw_tar_header(std::string_view name, char type, std::uint64_t size,
                                  std::string_view link = {}) {
  std::string block(512, '\0');
  const auto put = [&](std::size_t at, std::string_view text) {
    block.replace(at, text.size(), text);
  };
  char octal[16];
  put(0, name.substr(0, 100));
  put(100, "0000644");
  put(108, "0000000");
  put(116, "0000000");
  std::snprintf(octal, sizeof octal, "%011lo", static_cast<unsigned long>(size));
  put(124, octal);
  put(136, "00000000000");
  put(148, "        ");
  put(156, std::string_view(&type, 1));
  put(157, link.substr(0, 100));
  put(257, std::string_view("ustar\00000", 8));
  unsigned sum = 0;
  for (const char c : block) {
    sum += static_cast<unsigned char>(c);
  }
  std::snprintf(octal, sizeof octal, "%06o", sum);
  put(148, std::string_view(octal, 7));
  return block;
}

inline std::string tar_body(std::string_view text) {
  std::string body(text);
  body.resize((body.size() + 511) / 512 * 512);
  return body;
}

inline std::string pax_record(std::string_view key, std::string_view value) {
  for (std::size_t length = key.size() + value.size() + 3;; ++length) {
    const std::string record =
        std::to_string(length) + " " + std::string(key) + "=" + std::string(value) + "\n";
    if (record.size() == length) {
      return record;
    }
  }
}

inline std::string pax_header(const std::string& records) {
  return raw_tar_header("PaxHeader", 'x', records.size()) + tar_body(records);
}

// A pax header that gives the next entry `key`=`value`.
inline std::string pax_override(std::string_view key, std::string_view value) {
  return pax_header(pax_record(key, value));
}

// A file of `size` bytes of which only those of `data`, at `offset`, are there (GNU sparse 1.0).
inline std::string sparse_entry(const std::string& name, std::uint64_t size, std::uint64_t offset,
                                const std::string& data) {
  const std::string map =
      tar_body("1\n" + std::to_string(offset) + "\n" + std::to_string(data.size()) + "\n");
  return pax_header(pax_record("GNU.sparse.major", "1") + pax_record("GNU.sparse.minor", "0") +
                    pax_record("GNU.sparse.name", name) +
                    pax_record("GNU.sparse.realsize", std::to_string(size))) +
         raw_tar_header(name, '0', map.size() + data.size()) + map + tar_body(data);
}

inline std::string tar_end() {
  return std::string(1024, '\0');
}

}  // namespace tests
