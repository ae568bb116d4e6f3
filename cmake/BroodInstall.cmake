# `cmake --install build/release --prefix /usr/local`. The agent finds its parts by where it is itself
# (cmd/broodd.cc): PREFIX/sbin beside PREFIX/lib/brood, whatever a distribution calls its library folder.
install(TARGETS brood brood-image brood-bench RUNTIME DESTINATION bin)
install(TARGETS broodd RUNTIME DESTINATION sbin)
install(TARGETS brood-local brood-names brood-relay brood-unpack RUNTIME DESTINATION lib/brood)
install(TARGETS brood_python LIBRARY DESTINATION lib/brood/runtimes/python)
install(TARGETS brood_native RUNTIME DESTINATION lib/brood/runtimes/native)
install(PROGRAMS ${CMAKE_BINARY_DIR}/runtimes/node/brood-zygote DESTINATION lib/brood/runtimes/node)
install(FILES ${CMAKE_SOURCE_DIR}/runtimes/node/sandbox.js DESTINATION lib/brood/runtimes/node)
install(FILES ${CMAKE_SOURCE_DIR}/runtimes/python/zygote.py ${CMAKE_SOURCE_DIR}/runtimes/python/sandbox.py
  DESTINATION lib/brood/runtimes/python)

# What makes images: make -f PREFIX/share/brood/Makefile.rootfs python3
install(FILES Makefile.rootfs DESTINATION share/brood)
install(DIRECTORY scripts/image DESTINATION share/brood/scripts USE_SOURCE_PERMISSIONS)
install(PROGRAMS scripts/leftovers DESTINATION share/brood/scripts)
install(DIRECTORY rootfs/images DESTINATION share/brood/rootfs FILES_MATCHING PATTERN "*.toml")

install(DIRECTORY examples DESTINATION share/doc/brood PATTERN "__pycache__" EXCLUDE)
install(FILES README.md CHANGELOG.md docs/configuration.md docs/openapi.yaml docs/runbook.md docs/security.md DESTINATION share/doc/brood)

# The unit goes where systemd looks for it; the configuration is the administrator's, so it is only shown.
configure_file(packaging/systemd/broodd.service.in packaging/broodd.service @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/packaging/broodd.service DESTINATION lib/systemd/system)
install(FILES packaging/systemd/brood.sysusers DESTINATION lib/sysusers.d RENAME brood.conf)
install(FILES packaging/broodd.toml DESTINATION share/doc/brood)
