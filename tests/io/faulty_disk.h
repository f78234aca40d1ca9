#pragma once

#include <cerrno>
#include <filesystem>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "vlmamba/io/file_system.h"

// Disks that fail, for tests of what is then left.
namespace vlmamba::test {

/// In use as long as it lives. Does not wait for the real one.
class Disk : public io::FileSystem {
 public:
  Disk() : before_(io::FileSystem::replace(this)) {}
  ~Disk() override { io::FileSystem::replace(before_); }

  int open(const std::string& path, Open how, int& descriptor) override {
    const int failure = FileSystem::open(path, how, descriptor);
    if (failure == 0) paths_[descriptor] = path;
    return failure;
  }
  int sync(int) override { return 0; }  // a test never loses power
  int sync_folder(const std::string&) override { return 0; }

 protected:
  const std::string& path_of(int descriptor) { return paths_[descriptor]; }

 private:
  io::FileSystem* before_;
  std::map<int, std::string> paths_;
};

/// The `at`-th call that concerns a path with `within` in it fails, once or with all that follow. Removing works.
class FaultyDisk : public Disk {
 public:
  FaultyDisk(int at, int number, bool lasting, std::string within = "")
      : at_(at), number_(number), lasting_(lasting), within_(std::move(within)) {}

  bool failed() const { return calls_ >= at_; }

  int make_folder(const std::string& path) override { return fails(path) ? number_ : Disk::make_folder(path); }
  int open(const std::string& path, Open how, int& descriptor) override {
    return fails(path) ? number_ : Disk::open(path, how, descriptor);
  }
  int write(int descriptor, std::string_view bytes, size_t& written) override {
    if (!fails(path_of(descriptor))) return Disk::write(descriptor, bytes, written);
    Disk::write(descriptor, bytes.substr(0, bytes.size() / 2), written);  // a torn write
    return number_;
  }
  int sync(int descriptor) override { return fails(path_of(descriptor)) ? number_ : Disk::sync(descriptor); }
  int close(int descriptor) override {
    const int result = Disk::close(descriptor);
    return fails(path_of(descriptor)) ? number_ : result;
  }
  int rename(const std::string& from, const std::string& to) override {
    return fails(to) ? number_ : Disk::rename(from, to);
  }
  int sync_folder(const std::string& path) override { return fails(path) ? number_ : Disk::sync_folder(path); }

 private:
  bool fails(const std::string& path) {
    if (path.find(within_) == std::string::npos) return false;
    return ++calls_ == at_ || (lasting_ && calls_ > at_);
  }

  int at_, number_, calls_ = 0;
  bool lasting_;
  std::string within_;
};

/// Before every call, and in the middle of every write, keeps what a machine that stops there could leave of `folder`:
/// everything that was called for, and only what was synced. Only calls that concern a path with `within` in it count.
class StoppingDisk : public Disk {
 public:
  StoppingDisk(std::string folder, std::string copies, std::string within = "")
      : folder_(std::move(folder)), copies_(std::move(copies)), within_(std::move(within)) {}

  const std::vector<std::string>& left() const { return left_; }

  int make_folder(const std::string& path) override {
    keep(path);
    return Disk::make_folder(path);
  }
  int open(const std::string& path, Open how, int& descriptor) override {
    keep(path);
    if (!std::filesystem::exists(path)) unsynced_names_.emplace_back("", path);
    return Disk::open(path, how, descriptor);
  }
  int write(int descriptor, std::string_view bytes, size_t& written) override {
    keep(path_of(descriptor));
    if (unsynced_.insert(path_of(descriptor)).second && bytes.size() > 1)
      return Disk::write(descriptor, bytes.substr(0, bytes.size() / 2), written);
    return Disk::write(descriptor, bytes, written);
  }
  int sync(int descriptor) override {
    keep(path_of(descriptor));
    unsynced_.erase(path_of(descriptor));
    return Disk::sync(descriptor);
  }
  int close(int descriptor) override {
    keep(path_of(descriptor));
    return Disk::close(descriptor);
  }
  int rename(const std::string& from, const std::string& to) override {
    keep(to);
    unsynced_names_.emplace_back(from, to);
    return Disk::rename(from, to);
  }
  int sync_folder(const std::string& path) override {
    keep(path);
    std::erase_if(unsynced_names_, [&](const auto& name) {
      return std::filesystem::path(name.second).parent_path() == std::filesystem::path(path);
    });
    return Disk::sync_folder(path);
  }
  int remove(const std::string& path) override {
    keep(path);
    return Disk::remove(path);
  }

 private:
  std::string copy() {
    left_.push_back(copies_ + "/" + std::to_string(left_.size()));
    std::filesystem::create_directories(copies_);
    std::filesystem::copy(folder_, left_.back(), std::filesystem::copy_options::recursive);
    return left_.back();
  }
  void keep(const std::string& path) {
    if (path.find(within_) == std::string::npos || !std::filesystem::exists(folder_)) return;
    copy();
    const std::string root = copy();
    const auto there = [&](const std::string& path) { return root + path.substr(folder_.size()); };
    for (const auto& path : unsynced_)
      if (path.starts_with(folder_) && std::filesystem::exists(there(path)))
        std::filesystem::resize_file(there(path), 0);
    for (auto name = unsynced_names_.rbegin(); name != unsynced_names_.rend(); ++name) {
      if (!name->second.starts_with(folder_) || !std::filesystem::exists(there(name->second))) continue;
      if (name->first.empty())
        std::filesystem::remove(there(name->second));
      else
        std::filesystem::rename(there(name->second), there(name->first));
    }
  }

  std::string folder_, copies_, within_;
  std::vector<std::string> left_;
  std::set<std::string> unsynced_;
  std::vector<std::pair<std::string, std::string>> unsynced_names_;  // from (empty: made), to
};

}  // namespace vlmamba::test
