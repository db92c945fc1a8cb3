// QUIC: whoever comes from another address with an id that the server has given stays with that server.
#include "tests/packet/planes.hpp"
#include "tests/packet/quic.hpp"

namespace godwit::test {

TYPED_TEST_SUITE(EveryPlane, Planes);

namespace {

// The same client over both families, behind this port of its NAT.
std::vector<Udp> clients(unsigned port, const std::string& server_port = "443") {
    const std::string text = std::to_string(port);
    return {udp("10.0.0.9:" + text, "10.1.0.1:" + server_port),
            udp("[2001:db8::9]:" + text, "[2001:db8:1::1]:" + server_port)};
}

// Ids of the first connection and so on, as long as a server likes them.
std::string id(char name, std::size_t bytes = 18) {
    return std::string(bytes - 1, 'i') + name;
}

void connect(Plane& plane, const Udp& client, Slot slot, const std::string& server_id) {
    const Port port = slot == kSource ? kSourcePort : kDestinationPort;
    plane.send(kUplink, client.datagram(quic_long({id('?', 8), "client"})));
    plane.send(port, client.reply().datagram(quic_long({"client", server_id})));
    plane.send(kUplink, client.datagram(quic_short(server_id)));
}

}  // namespace

TYPED_TEST(EveryPlane, AQuicClientFromAnotherPortStaysWithItsServer) {
    for (std::size_t v6 = 0; v6 < 2; ++v6) {
        this->plane.steer(steady(kSource));
        connect(this->plane, clients(5000)[v6], kSource, id('a'));
        this->plane.steer(flipped(kSource, kDestination));
        connect(this->plane, clients(5001)[v6], kDestination, id('b'));

        const Udp old = clients(6000)[v6], young = clients(6001)[v6], fresh = clients(6002)[v6];
        EXPECT_TRUE(went_to(this->from_client(old.datagram(quic_short(id('a')))), kSourcePort,
                            "connection-id"));
        EXPECT_TRUE(went_to(this->from_client(young.datagram(quic_short(id('b')))),
                            kDestinationPort, "connection-id"));
        EXPECT_TRUE(went_to(this->from_client(fresh.datagram(quic_long({id('?', 8), "client"}))),
                            kDestinationPort, "new-owner"));
        std::string greased = quic_short(id('a'));  // RFC 9287: no bit is fixed any more
        greased[0] = 0x01;
        EXPECT_TRUE(went_to(this->from_client(clients(6003)[v6].datagram(greased)), kSourcePort,
                            "connection-id"));
        // Answered, it is a session like any other, and nobody else may speak on it.
        EXPECT_TRUE(
            dropped(this->from_destination(old.reply().datagram(quic_short("client"))), "fenced"));
        EXPECT_TRUE(
            passed(this->from_source(old.reply().datagram(quic_short("client"))), "handshake"));
        EXPECT_EQ(this->plane.pinned_to(old), kSource);
        EXPECT_TRUE(
            went_to(this->from_client(old.datagram(quic_short(id('?')))), kSourcePort, "session"));
    }
}

TYPED_TEST(EveryPlane, AConnectionThatHasMovedMovesAgainAndKeepsTheDrainWaiting) {
    for (std::size_t v6 = 0; v6 < 2; ++v6) {
        this->plane.steer(steady(kSource));
        connect(this->plane, clients(5000)[v6], kSource, id('a'));
        this->plane.steer(flipped(kSource, kDestination));
        for (unsigned port = 6000; port < 6004; ++port) {
            // Longer than a session may be idle, in all; each hop makes the connection young again.
            this->plane.advance_s(200);
            this->plane.sweep();
            const Udp client = clients(port)[v6];
            EXPECT_TRUE(went_to(this->from_client(client.datagram(quic_short(id('a')))),
                                kSourcePort, "connection-id"));
            EXPECT_FALSE(this->plane.is_drained()) << "a newcomer of the source is open";
            this->from_source(client.reply().datagram(quic_short("client")));
            EXPECT_FALSE(this->plane.is_drained());
        }
        this->plane.advance_s(301);
        this->plane.sweep();
        EXPECT_TRUE(this->plane.is_drained());
        EXPECT_EQ(this->plane.session_entries(), 0u) << "ids are forgotten with their sessions";
        // What nothing knows any more is asked of the original.
        EXPECT_TRUE(went_to(this->from_client(clients(7000)[v6].datagram(quic_short(id('a')))),
                            kSourcePort, "previous"));
        this->plane.advance_s(31);
        this->plane.sweep();
    }
}

TYPED_TEST(EveryPlane, AnIdIsKnownAsLongAsItsConnectionLives) {
    for (std::size_t v6 = 0; v6 < 2; ++v6) {
        const Udp client = clients(5000)[v6];
        this->plane.steer(flipped(kSource, kDestination));
        connect(this->plane, client, kDestination, id('a'));
        for (unsigned minute = 0; minute < 30; ++minute) {
            this->plane.advance_s(60);
            this->from_client(client.datagram(quic_short(id('a'))));
            this->plane.sweep();
        }
        EXPECT_TRUE(went_to(this->from_client(clients(6000)[v6].datagram(quic_short(id('a')))),
                            kDestinationPort, "connection-id"));
    }
}

TYPED_TEST(EveryPlane, ServersOfOneVmMayHaveIdsOfAnyLength) {
    for (std::size_t v6 = 0; v6 < 2; ++v6)
        for (std::size_t bytes : {1u, 4u, 8u, 16u, 17u, 20u}) {
            this->plane.steer(steady(kSource));
            connect(this->plane, clients(5000)[v6], kSource, id('a', bytes));
            this->plane.steer(flipped(kSource, kDestination));
            const auto port = static_cast<unsigned>(6000 + bytes);
            EXPECT_TRUE(
                went_to(this->from_client(clients(port)[v6].datagram(quic_short(id('a', bytes)))),
                        kSourcePort, "connection-id"));
        }
}

TYPED_TEST(EveryPlane, OnlyTheVmTeachesIds) {
    const Udp client = clients(5000)[0];
    this->plane.steer(flipped(kSource, kDestination));
    connect(this->plane, client, kDestination, id('a'));
    // A client that names somebody's id as its own, towards either VM, and a fenced clone that does.
    this->from_client(clients(5001)[0].datagram(quic_long({id('?', 8), id('b')})));
    this->from_client(client.datagram(quic_long({id('a'), id('b')})));
    EXPECT_TRUE(dropped(this->from_source(client.reply().datagram(quic_long({"client", id('b')}))),
                        "fenced"));
    EXPECT_TRUE(went_to(this->from_client(clients(6000)[0].datagram(quic_short(id('b')))),
                        kSourcePort, "previous"));
    // Who has an id first keeps it: the source, with a connection of its own, cannot take it away.
    this->plane.steer(flipped(kDestination, kSource));
    connect(this->plane, clients(5002)[0], kSource, id('a'));
    EXPECT_TRUE(went_to(this->from_client(clients(6001)[0].datagram(quic_short(id('a')))),
                        kDestinationPort, "connection-id"));
}

TYPED_TEST(EveryPlane, AnswersThatNameNoConnectionTeachNoId) {
    const std::vector<LongHeader> stateless = {
        {"client", id('a'), LongType::retry, kQuicV1},
        {"client", id('a'), LongType::initial, kQuicV2},  // the number of v2's Retry
        {"client", id('a'), LongType::retry, 0},          // Version Negotiation: an echo
        {"client", "", LongType::initial, kQuicV1},       // ids of no length
        {"client", std::string(21, 'a'), LongType::initial, kQuicV1},
    };
    unsigned port = 5000;
    connect(this->plane, clients(port)[0], kSource, id('z'));
    for (const LongHeader& answer : stateless) {
        const Udp client = clients(++port)[0];
        this->plane.steer(flipped(kSource, kDestination));
        this->from_client(client.datagram(quic_long({id('?', 8), "client"})));
        EXPECT_TRUE(passed(this->from_destination(client.reply().datagram(quic_long(answer))),
                           "handshake"));
        EXPECT_TRUE(
            went_to(this->from_client(clients(port + 1000)[0].datagram(quic_short(id('a')))),
                    kSourcePort, "previous"));
    }
    // Behind a Retry the server names the connection, on the same session.
    const Udp client = clients(5001)[0];
    EXPECT_TRUE(passed(this->from_destination(client.reply().datagram(
                           quic_long({"client", id('c'), LongType::handshake}))),
                       "session"));
    EXPECT_TRUE(went_to(this->from_client(clients(7000)[0].datagram(quic_short(id('c')))),
                        kDestinationPort, "connection-id"));
}

TYPED_TEST(EveryPlane, EveryVersionNamesItsConnectionsTheSameWay) {
    connect(this->plane, clients(5000)[0], kSource,
            id('a'));  // and that the port is a QUIC server's
    unsigned port = 5001;
    for (std::uint32_t version : {kQuicV2, 0xff00001du, 0x0a1a2a3au}) {
        const Udp client = clients(port)[0];
        const std::string name = id(static_cast<char>('b' + port++ - 5001));
        this->plane.steer(steady(kSource));
        this->from_client(
            client.datagram(quic_long({id('?', 8), "client", LongType::initial, version})));
        this->from_source(
            client.reply().datagram(quic_long({"client", name, LongType::handshake, version})));
        this->plane.steer(flipped(kSource, kDestination));
        // In mid-handshake: a long header with the id.
        const std::string handshake = quic_long({name, "client", LongType::handshake, version});
        EXPECT_TRUE(went_to(this->from_client(clients(port + 1000)[0].datagram(handshake)),
                            kSourcePort, "connection-id"));
    }
}

TYPED_TEST(EveryPlane, TheMiddleOfAnUnknownConnectionIsAskedOfTheOriginal) {
    for (std::size_t v6 = 0; v6 < 2; ++v6) {
        this->plane.steer(steady(kSource));
        connect(this->plane, clients(5000)[v6], kSource, id('a'));
        const std::string issued = id('n');  // in a NEW_CONNECTION_ID frame that nobody can read
        EXPECT_TRUE(went_to(this->from_client(clients(6000)[v6].datagram(quic_short(issued))),
                            kSourcePort, "new-owner"));
        for (const Plan& plan : {flipped(kSource, kDestination), flipped(kDestination, kSource)}) {
            this->plane.steer(plan);
            const Udp moved = clients(plan.owner == kSource ? 6001 : 6002)[v6];
            const bool back = plan.owner == kSource;
            const std::uint32_t before = this->plane.handshakes(kSource);
            EXPECT_TRUE(went_to(this->from_client(moved.datagram(quic_short(issued))), kSourcePort,
                                "previous"))
                << (back ? "the rollback's original is no clone either" : "");
            EXPECT_EQ(this->plane.handshakes(kSource), before) << "nobody's packet holds the drain";
            // PATH_CHALLENGE and PATH_RESPONSE fill their datagrams (RFC 9000 section 8.2).
            const std::string challenge = quic_short(std::string(1160, 'c'));
            EXPECT_NE(this->from_source(moved.reply().datagram(challenge)).action, STEER_DROP);
            EXPECT_TRUE(went_to(this->from_client(moved.datagram(quic_short(issued))), kSourcePort,
                                "session"));
        }
    }
}

TYPED_TEST(EveryPlane, WhatIsNotQuicIsSteeredAsEver) {
    connect(this->plane, clients(5000)[0], kSource, id('a'));
    // The VM is a client here: nobody comes to its port from elsewhere.
    const Udp as_client = clients(5003, "40000")[0];
    this->from_source(as_client.reply().datagram(quic_long({id('?', 8), id('b')})));
    this->plane.steer(flipped(kSource, kDestination));
    for (const std::string& server : {"53", "40000"})
        for (const std::string& text :
             {quic_short(id('a')), quic_short(id('b')), std::string("hello"), std::string()}) {
            static unsigned port = 10000;
            EXPECT_TRUE(went_to(this->from_client(clients(++port, server)[0].datagram(text)),
                                kDestinationPort, "new-owner"));
        }
    for (const std::string& text :
         {std::string(1, '\x41'), std::string("\x41tooshort"), std::string(),
          std::string(7, '\xff'), quic_short(id('a')).substr(0, 20)}) {
        static unsigned port = 11000;
        EXPECT_TRUE(went_to(this->from_client(clients(++port)[0].datagram(text)), kDestinationPort,
                            "new-owner"));
    }
}

TYPED_TEST(EveryPlane, AnIdIsItsServersAndItsVmsAlone) {
    this->plane.manage({kOtherVm, {"10.1.0.2"}, {kOtherVmPort, kDestinationPort}, kOtherVmMac});
    this->plane.steer(steady(kSource), kOtherVm);
    connect(this->plane, clients(5000)[0], kSource, id('a'));
    connect(this->plane, clients(5000, "8443")[0], kSource, id('b'));
    this->plane.steer(flipped(kSource, kDestination));
    EXPECT_TRUE(went_to(this->from_client(clients(6000, "8443")[0].datagram(quic_short(id('a')))),
                        kSourcePort, "previous"));
    Udp other = udp("10.0.0.9:6000", "10.1.0.2:443");
    other.to.mac = kOtherVmMac;
    EXPECT_TRUE(
        went_to(this->from_client(other.datagram(quic_short(id('a')))), kOtherVmPort, "new-owner"));
}

TYPED_TEST(EveryPlane, AnIdOfWhoMayNotSpeakAnyMoreNamesNobody) {
    connect(this->plane, clients(5000)[0], kSource, id('a'));
    this->plane.steer(steady(kDestination));
    EXPECT_TRUE(went_to(this->from_client(clients(6000)[0].datagram(quic_short(id('a')))),
                        kDestinationPort, "new-owner"));
    connect(this->plane, clients(5001)[0], kDestination, id('a'));
    this->plane.steer(flipped(kDestination, kSource));
    EXPECT_TRUE(went_to(this->from_client(clients(6001)[0].datagram(quic_short(id('a')))),
                        kDestinationPort, "connection-id"));
}

// 4096 ids in a table of 2304 places: they make room for one another, and sessions never wait for them.
TYPED_TEST(EveryPlane, IdsGiveWayToSessions) {
    connect(this->plane, clients(5000)[0], kSource, id('a'));
    const Udp client = clients(5000)[0];
    for (unsigned i = 0; i < 4096; ++i)
        this->from_source(
            client.reply().datagram(quic_long({"client", std::to_string(100000 + i)})));
    EXPECT_EQ(this->plane.sessions(kSource), 1u);
    this->plane.advance_s(4);
    for (unsigned i = 0; i < 1000; ++i) {
        const Udp other =
            udp("10.0." + std::to_string(i / 200) + "." + std::to_string(1 + i % 200) + ":7000",
                "10.1.0.1:53");
        this->from_client(other.datagram());
        EXPECT_TRUE(passed(this->from_source(other.reply().datagram()), "handshake"));
    }
    EXPECT_EQ(this->plane.sessions(kSource), 1001u);
    EXPECT_EQ(this->plane.reason(STEER_WHY_UNTRACKED), 0u);
    EXPECT_EQ(this->plane.audit()[kSource], 1001u);
}

TYPED_TEST(EveryPlane, AFloodWithAKnownIdMakesNoSessions) {
    connect(this->plane, clients(5000)[0], kSource, id('a'));
    this->plane.steer(flipped(kSource, kDestination));
    for (unsigned port = 10000; port < 20000; ++port)
        this->from_client(clients(port)[0].datagram(quic_short(id('a'))));
    EXPECT_EQ(this->plane.sessions(kSource), 1u);
    EXPECT_EQ(this->plane.sessions(kDestination), 0u);
}

// A backend in mode nat has the hosted address's connections.
TYPED_TEST(EveryPlane, AConnectionOfABackendInModeNatIsFoundToo) {
    ManagedVm vm;
    vm.nat[kDestination] = {{0x52, 0x54, 0, 0, 0, 0x31}, {"10.1.0.31", "2001:db8:1::31"}};
    this->plane.manage(vm);
    this->plane.steer(flipped(kSource, kDestination));
    const Udp client = clients(5000)[0];
    Udp temporary = client;
    temporary.to = endpoint("10.1.0.31:443", vm.nat[kDestination]->mac);
    this->from_client(client.datagram(quic_long({id('?', 8), "client"})));
    EXPECT_TRUE(
        passed(this->from_destination(temporary.reply().datagram(quic_long({"client", id('a')}))),
               "handshake"));
    EXPECT_TRUE(went_to(this->from_client(clients(6000)[0].datagram(quic_short(id('a')))),
                        kDestinationPort, "connection-id"));
}

}  // namespace godwit::test
