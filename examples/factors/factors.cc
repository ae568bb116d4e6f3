// Reads a number, prints its prime factors as JSON. A payload that is no such number ends the
// program with a status, and the invocation with handler_error; what it says on stderr is in the log.
#include <cstdint>
#include <iostream>

int main() {
  std::uint64_t number = 0;
  if (!(std::cin >> number) || number < 2) {
    std::cerr << "the payload is no whole number from 2 up\n";
    return 2;
  }
  std::cout << "{\"number\": " << number << ", \"factors\": [";
  const char* between = "";
  for (std::uint64_t factor = 2; number > 1; factor += factor == 2 ? 1 : 2) {
    if (factor > number / factor) {
      factor = number;  // what is left is prime
    }
    for (; number % factor == 0; number /= factor) {
      std::cout << between << factor;
      between = ", ";
    }
  }
  std::cout << "]}\n";
}
